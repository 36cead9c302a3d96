"""Chooses the backend of an environment: EnvPool if it has the id, Gymnasium otherwise.

With cameras, Gymnasium plays what both have: EnvPool does not render MuJoCo's tasks.

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
from fastifo.envs.vector import Backend, FilmedEnv
from fastifo.utils.text import did_you_mean

ENVPOOL: Backend = EnvPoolBackend()
GYMNASIUM: Backend = GymnasiumBackend()
PREFIXES: dict[str, Backend] = {  # start of an id -> the library that plays it
    "envpool/": ENVPOOL,
    gymnasium_make.PREFIX: GYMNASIUM,
    metaworld.PREFIX: MetaworldBackend(),
    ROBOSUITE_PREFIX: RobosuiteBackend(),
}


def find_backend(spec: EnvSpec, *, renders: bool | None = None) -> Backend:
    """The library that plays an environment.

    renders: whether it must have cameras; None: if the spec names some.
    Raises ValueError, with the nearest name, for an id that none has.
    """
    renders = spec.render is not None if renders is None else renders
    if spec.make is not None:
        return GYMNASIUM
    for prefix, backend in PREFIXES.items():
        if spec.id.startswith(prefix):
            return _that_renders(spec, backend) if renders else backend
    if ENVPOOL.knows(spec.id):
        return _that_renders(spec, ENVPOOL) if renders else ENVPOOL
    if ":" in spec.id or GYMNASIUM.knows(spec.id):
        return GYMNASIUM
    known = dict.fromkeys([*ENVPOOL.ids(), *GYMNASIUM.ids()])
    known |= dict.fromkeys(
        n for b in set(PREFIXES.values()) - {ENVPOOL, GYMNASIUM} for n in b.ids()
    )
    raise ValueError(f"no environment {spec.id!r}; {did_you_mean(spec.id, known)}")


def _that_renders(spec: EnvSpec, backend: Backend) -> Backend:
    """The backend, or instead of EnvPool, which does not render, Gymnasium.

    Raises ValueError for an environment of EnvPool that Gymnasium does not have.
    """
    if not isinstance(backend, EnvPoolBackend):
        return backend
    if backend is ENVPOOL and GYMNASIUM.knows(spec.id):
        return GYMNASIUM
    raise ValueError(
        f"{spec.id}: EnvPool does not render it; use one of Gymnasium's MuJoCo tasks, such as "
        "HalfCheetah-v4, one of robosuite's tasks, or an environment of your own"
    )


def open_filmed(spec: EnvSpec) -> FilmedEnv:
    """One environment in this process, whose cameras can be opened at any time.

    Raises ValueError for one that only EnvPool has, and as `describe`.
    """
    backend = find_backend(spec, renders=True)
    if isinstance(backend, GymnasiumBackend) and GYMNASIUM.knows(spec.id):
        spec = as_spec(spec, kwargs={"render_mode": "rgb_array"})
    assert isinstance(backend, GymnasiumBackend | RobosuiteBackend)
    return backend.single(spec)


def describe(spec: EnvSpec) -> EnvInfo:
    """What is known about an environment.  Raises ValueError, TypeError or ImportError."""
    return find_backend(spec).describe(spec)


def check_id(env_id: str) -> EnvInfo:
    """What is known about an environment by its id.  Raises as `describe`."""
    return describe(as_spec(env_id))
