"""The same training step as others write it: one VfO-bin update with encoder, head and target copy.

All peers share `problem.py`: the same sizes, data, losses and counts of rows. Each is written as
its school writes such a step, with the settings that make it fast.
"""
