"""Layers, nets, policy heads and the optimizer, all with a population axis."""
