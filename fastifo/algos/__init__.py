"""The registry of algorithms: classes by name, and the backbones of methods that make rewards."""

import re
from typing import Any

from fastifo.algos.awr import AWR
from fastifo.algos.bc import BC
from fastifo.algos.bco import BCO
from fastifo.algos.dilo import DILO
from fastifo.algos.iql import IQL
from fastifo.algos.learner import Learner
from fastifo.algos.lobsdice import LobsDICE
from fastifo.algos.oril import ORIL
from fastifo.algos.pw_dice import PWDICE
from fastifo.algos.rebrac import ReBRAC
from fastifo.algos.rewards.otr import OTRIQL, OTRReBRAC
from fastifo.algos.rewards.seabo import SEABOIQL, SEABOReBRAC
from fastifo.algos.rewards.tge import TGEIQL, TGEReBRAC
from fastifo.algos.smodice import SMODICE
from fastifo.algos.sqil import SQIL
from fastifo.algos.tailo import TAILO
from fastifo.algos.vfo import VfOBin, VfODisc
from fastifo.utils.text import did_you_mean

ALGORITHMS: dict[str, type[Learner]] = {
    learner.name: learner
    for learner in (
        BC, BCO, AWR, VfOBin, VfODisc, SMODICE, LobsDICE, PWDICE, DILO, TAILO, ORIL, SQIL, IQL,
        ReBRAC, TGEIQL, SEABOIQL, OTRIQL,
    )
}  # fmt: skip
# Methods that make rewards for an offline RL method, by the name of that backbone.
BACKBONES: dict[str, dict[str, type[Learner]]] = {
    "tge": {"iql": TGEIQL, "rebrac": TGEReBRAC},
    "seabo": {"iql": SEABOIQL, "rebrac": SEABOReBRAC},
    "otr": {"iql": OTRIQL, "rebrac": OTRReBRAC},
}

DAGGER = "dagger"  # the method of `fastifo.studies.dagger`, which has no Learner class
DAGGER_HINT = (
    "DAgger is online and asks an expert; run it with fastifo improve dagger or "
    'fastifo.improve("dagger", ...)'
)


def register(name: str, learner: type[Learner]) -> None:
    """Registers a method of your own by name, for `train`, `improve`, studies and `open_run`.

    name: letters, digits and underscores.  learner: a subclass of `fastifo.algos.learner.Learner`
    that defines `build` and `update`; its `Config` is a frozen dataclass.

    A run folder stores the method's name, not its code: a process that opens or resumes the run
    must register the class first. Registering a class again, as in a notebook, replaces it.
    Raises TypeError if `learner` is not such a class, ValueError if the name is taken.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(f"name: expected letters, digits and underscores, found {name!r}")
    if name == DAGGER:
        raise ValueError(f"{name}: is already the name of DAgger; choose another one")
    if not (isinstance(learner, type) and issubclass(learner, Learner)):
        raise TypeError(f"{name}: expected a subclass of Learner, found {learner!r}")
    missing = [m for m in ("build", "update") if getattr(learner, m) is getattr(Learner, m)]
    if missing:
        raise TypeError(f"{name}: {learner.__name__} does not define {' and '.join(missing)}")
    config: Any = learner.Config
    parent = next(base.Config for base in learner.__mro__[1:] if issubclass(base, Learner))
    is_config = isinstance(config, type) and issubclass(config, parent)
    if not is_config or "__dataclass_params__" not in vars(config):
        raise TypeError(
            f"{name}: expected {learner.__name__}.Config to be a frozen dataclass derived from "
            f"{parent.__name__}, found {config!r}"
        )
    if "name" not in vars(learner):  # an inherited one is the parent's
        learner.name = name
    taken = ALGORITHMS.get(name, learner)
    if (taken.__module__, taken.__qualname__) != (learner.__module__, learner.__qualname__):
        raise ValueError(f"{name}: is already the name of {taken.__qualname__}; choose another one")
    ALGORITHMS[name] = learner


def name_of(algorithm: str | type[Learner]) -> str:
    """The name of an algorithm given by its name or its class; a class is registered.

    A class without a `name` of its own gets its class's name in lower case.  Raises what `register`
    raises; TypeError for anything else.
    """
    if isinstance(algorithm, str):
        return algorithm
    for method, classes in BACKBONES.items():
        for backbone, learner in classes.items():
            if learner is algorithm:
                return f"{method}-{backbone}"
    if not isinstance(algorithm, type):
        raise TypeError(
            "algorithm: expected a name such as 'vfo_bin' or a subclass of Learner, "
            f"found {algorithm!r}"
        )
    name: str = vars(algorithm).get("name", algorithm.__name__.lower())
    register(name, algorithm)
    return name


def split(name: str) -> tuple[str, dict[str, str]]:
    """Splits a name such as tge-rebrac into the algorithm and {"backbone": "rebrac"}.

    Returns the name and an empty dict if it has no backbone.
    """
    method, _, backbone = name.partition("-")
    return (method, {"backbone": backbone}) if backbone in BACKBONES.get(method, {}) else (name, {})


def is_dagger(name: str) -> bool:
    """Whether a name is one of DAgger, in capitals or not."""
    return name.lower() == DAGGER


def find(name: str, backbone: Any = None) -> type[Learner]:
    """The class of an algorithm.

    name: without backbone, see `split`.  backbone: of a method that makes rewards; None is iql.
    Raises ValueError for an unknown name or backbone, naming the nearest one.
    """
    if name not in ALGORITHMS:
        if is_dagger(name):
            raise ValueError(f"unknown algorithm {name!r}: {DAGGER_HINT}")
        names = [*ALGORITHMS, *(f"{method}-rebrac" for method in BACKBONES)]
        raise ValueError(
            f"unknown algorithm {name!r}; {did_you_mean(name, names)} (fastifo.register adds one "
            "of your own)"
        )
    known = BACKBONES.get(name, {})
    if backbone is None or not known:
        return ALGORITHMS[name]
    if not isinstance(backbone, str) or backbone not in known:
        raise ValueError(f"backbone: expected one of {', '.join(known)}, found {backbone!r}")
    return known[backbone]
