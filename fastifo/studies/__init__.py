"""Grids of runs, and self-improvement."""
