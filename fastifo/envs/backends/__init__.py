"""Simulator backends, one module each; `fastifo.envs.registry` chooses among them."""
