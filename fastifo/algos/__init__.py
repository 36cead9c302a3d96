"""The algorithms by name."""

from fastifo.algos.awr import AWR
from fastifo.algos.bc import BC
from fastifo.algos.bco import BCO
from fastifo.algos.dilo import DILO
from fastifo.algos.oril import ORIL
from fastifo.algos.smodice import SMODICE
from fastifo.algos.sqil import SQIL
from fastifo.algos.vfo import VfOBin, VfODisc
from fastifo.config import nearest
from fastifo.learner import Learner

ALGORITHMS: dict[str, type[Learner]] = {
    learner.name: learner for learner in (BC, BCO, AWR, VfOBin, VfODisc, SMODICE, DILO, ORIL, SQIL)
}


def find(name: str) -> type[Learner]:
    """The algorithm.  Raises ValueError with the nearest name."""
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; {nearest(name, ALGORITHMS)}")
    return ALGORITHMS[name]
