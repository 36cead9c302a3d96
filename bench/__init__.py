"""Benchmarks of fastifo. Each has help, such as `python -m bench.train --help`."""
