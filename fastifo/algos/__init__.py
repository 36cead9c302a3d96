"""The algorithms by name."""

from typing import Any

from fastifo.algos.awr import AWR
from fastifo.algos.bc import BC
from fastifo.algos.bco import BCO
from fastifo.algos.dilo import DILO
from fastifo.algos.iql import IQL
from fastifo.algos.learner import Learner
from fastifo.algos.oril import ORIL
from fastifo.algos.rebrac import ReBRAC
from fastifo.algos.rewards.otr import OTRIQL, OTRReBRAC
from fastifo.algos.rewards.seabo import SEABOIQL, SEABOReBRAC
from fastifo.algos.rewards.tge import TGEIQL, TGEReBRAC
from fastifo.algos.smodice import SMODICE
from fastifo.algos.sqil import SQIL
from fastifo.algos.vfo import VfOBin, VfODisc
from fastifo.utils.text import did_you_mean

ALGORITHMS: dict[str, type[Learner]] = {
    learner.name: learner
    for learner in (
        BC, BCO, AWR, VfOBin, VfODisc, SMODICE, DILO, ORIL, SQIL, IQL, ReBRAC, TGEIQL, SEABOIQL,
        OTRIQL,
    )
}  # fmt: skip
BACKBONES: dict[str, dict[str, type[Learner]]] = {  # methods that make rewards for another
    "tge": {"iql": TGEIQL, "rebrac": TGEReBRAC},
    "seabo": {"iql": SEABOIQL, "rebrac": SEABOReBRAC},
    "otr": {"iql": OTRIQL, "rebrac": OTRReBRAC},
}


def split(name: str) -> tuple[str, dict[str, str]]:
    """tge-rebrac is tge with that backbone: the algorithm, and the field that says so."""
    method, _, backbone = name.partition("-")
    return (method, {"backbone": backbone}) if backbone in BACKBONES.get(method, {}) else (name, {})


def find(name: str, backbone: Any = None) -> type[Learner]:
    """The algorithm.  backbone: None is its first one.  Raises ValueError with the nearest name."""
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; {did_you_mean(name, ALGORITHMS)}")
    known = BACKBONES.get(name, {})
    if backbone is None or not known:
        return ALGORITHMS[name]
    if not isinstance(backbone, str) or backbone not in known:
        raise ValueError(f"backbone: expected one of {', '.join(known)}, found {backbone!r}")
    return known[backbone]
