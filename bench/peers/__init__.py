"""The same training step in other frameworks: a VfO-bin update with encoder, head, target copy.

All peers share the sizes, data and losses of `problem.py`. Each is written in its framework's own
style, with the settings that make it fast.
"""
