"""Benches of fastifo. Run from the checkout after `pip install -e .`."""
