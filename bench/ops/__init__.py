"""One bench per op; `python -m bench.ops` runs all of them."""
