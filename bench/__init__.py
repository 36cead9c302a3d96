"""Benchmarks of fastifo: run `python -m bench.NAME --help` in a checkout after `pip install -e .`."""
