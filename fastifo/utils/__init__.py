"""Files, progress bars, processes, devices and statistics; none of it knows about learning."""
