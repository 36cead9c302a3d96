"""The papers' benchmarks: each registers the prefix of its dataset specs with `fastifo.load`."""

from fastifo.benchmarks.bimodal import load_bimodal
from fastifo.benchmarks.sibench import load_sibench
from fastifo.data.load import register

register("sibench", load_sibench)
register("bimodal", load_bimodal)
