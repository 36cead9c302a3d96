"""Grids of runs, sweeps over settings, and self-improvement."""
