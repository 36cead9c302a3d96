"""Benchmarks of fastifo. Each has help: `python -m bench.train --help`, after `pip install -e .`."""
