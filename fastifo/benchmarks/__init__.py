"""The papers' benchmarks. Importing them makes `fastifo.load` understand their dataset specs."""

from fastifo.benchmarks.bimodal import load_bimodal
from fastifo.benchmarks.robosuite_states import load_states
from fastifo.benchmarks.sibench import load_sibench
from fastifo.data.load import register

register("sibench", load_sibench)
register("bimodal", load_bimodal)
register("robosuite", load_states)
