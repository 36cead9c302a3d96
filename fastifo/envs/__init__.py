"""Simulators, rollouts, policies that act, returns and the shipped experts."""
