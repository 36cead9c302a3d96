"""Slow, single-member versions of every method, written from the papers and never from fastifo."""
