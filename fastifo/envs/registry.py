"""Chooses the backend of an environment: EnvPool if it has the id, Gymnasium otherwise.

A prefix selects a backend, as in `gymnasium/Hopper-v5`. A new backend is one module in
`fastifo.envs.backends` and one line in `PREFIXES`.
"""

from fastifo.data.formats.robosuite import PREFIX as ROBOSUITE_PREFIX
from fastifo.envs.backends import gymnasium_make, metaworld
from fastifo.envs.backends.envpool import EnvPoolBackend
from fastifo.envs.backends.gymnasium import GymnasiumBackend
from fastifo.envs.backends.metaworld import MetaworldBackend
from fastifo.envs.backends.robosuite import RobosuiteBackend
from fastifo.envs.spec import EnvInfo, EnvSpec, as_spec
from fastifo.envs.vector import Backend
from fastifo.utils.text import did_you_mean

ENVPOOL: Backend = EnvPoolBackend()
GYMNASIUM: Backend = GymnasiumBackend()
PREFIXES: dict[str, Backend] = {  # start of an id -> the library that plays it
    "envpool/": ENVPOOL,
    gymnasium_make.PREFIX: GYMNASIUM,
    metaworld.PREFIX: MetaworldBackend(),
    ROBOSUITE_PREFIX: RobosuiteBackend(),
}


def find_backend(spec: EnvSpec) -> Backend:
    """The library that plays an environment.

    Raises ValueError, with the nearest name, for an id that none has.
    """
    if spec.make is not None:
        return GYMNASIUM
    for prefix, backend in PREFIXES.items():
        if spec.id.startswith(prefix):
            return backend
    if ENVPOOL.knows(spec.id):
        return ENVPOOL
    if ":" in spec.id or GYMNASIUM.knows(spec.id):
        return GYMNASIUM
    known = dict.fromkeys([*ENVPOOL.ids(), *GYMNASIUM.ids()])
    known |= dict.fromkeys(
        n for b in set(PREFIXES.values()) - {ENVPOOL, GYMNASIUM} for n in b.ids()
    )
    raise ValueError(f"no environment {spec.id!r}; {did_you_mean(spec.id, known)}")


def describe(spec: EnvSpec) -> EnvInfo:
    """What is known about an environment.  Raises ValueError, TypeError or ImportError."""
    return find_backend(spec).describe(spec)


def check_id(env_id: str) -> EnvInfo:
    """What is known about an environment by its id.  Raises as `describe`."""
    return describe(as_spec(env_id))
