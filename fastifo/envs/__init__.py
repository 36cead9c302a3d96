"""Simulators, rollouts, policies that act, returns, and the expert policies that ship."""
