"""The registry of algorithms: classes by name, and the backbones of methods that make rewards."""

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
# Methods that make rewards for an offline RL method, by the name of that backbone.
BACKBONES: dict[str, dict[str, type[Learner]]] = {
    "tge": {"iql": TGEIQL, "rebrac": TGEReBRAC},
    "seabo": {"iql": SEABOIQL, "rebrac": SEABOReBRAC},
    "otr": {"iql": OTRIQL, "rebrac": OTRReBRAC},
}


def split(name: str) -> tuple[str, dict[str, str]]:
    """Splits a name such as tge-rebrac into the algorithm and {"backbone": "rebrac"}.

    Returns the name and an empty dict if it has no backbone.
    """
    method, _, backbone = name.partition("-")
    return (method, {"backbone": backbone}) if backbone in BACKBONES.get(method, {}) else (name, {})


def find(name: str, backbone: Any = None) -> type[Learner]:
    """The class of an algorithm.

    name: without backbone, see `split`.  backbone: of a method that makes rewards; None is iql.
    Raises ValueError for an unknown name or backbone, naming the nearest one.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; {did_you_mean(name, ALGORITHMS)}")
    known = BACKBONES.get(name, {})
    if backbone is None or not known:
        return ALGORITHMS[name]
    if not isinstance(backbone, str) or backbone not in known:
        raise ValueError(f"backbone: expected one of {', '.join(known)}, found {backbone!r}")
    return known[backbone]
