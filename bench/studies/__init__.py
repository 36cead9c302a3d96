"""Studies that any machine can continue: each result is a committed row of a CSV file."""
