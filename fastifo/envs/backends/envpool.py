"""EnvPool: many environments in one process, stepped by compiled threads."""

import ctypes
import functools
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.backends.quiet import quiet
from fastifo.envs.flatten import Flattener, action_bounds
from fastifo.envs.spec import EnvInfo, EnvSpec
from fastifo.envs.vector import SUCCESS_KEYS, EnvStep, VectorEnv, empty_step
from fastifo.utils.interrupt import checked_interrupt
from fastifo.utils.text import did_you_mean

PREFIX = "envpool/"


class EnvPoolBackend:
    """EnvPool's environments; the prefix envpool/ may stand before their names."""

    has_async_steps = True
    max_slots = 2048
    own_settings: Mapping[str, Any] = {}  # that the backend adds to EnvPool's, and their defaults
    defaults: Mapping[str, Any] = {}  # settings of EnvPool that hold unless the spec says otherwise
    hint = "; gymnasium/{name} takes those of Gymnasium"  # at the end of the error for unknown ones

    def name_of(self, spec: EnvSpec) -> str:
        """EnvPool's name of the environment."""
        return spec.id.removeprefix(PREFIX)

    def knows(self, env_id: str) -> bool:
        """Whether EnvPool has the environment."""
        return env_id.removeprefix(PREFIX) in all_ids()

    def ids(self) -> list[str]:
        """All of EnvPool's names."""
        return sorted(all_ids())

    def describe(self, spec: EnvSpec) -> EnvInfo:
        """Reads EnvPool's own description.  Raises as `Backend.describe`."""
        return self._plan(spec)[0]

    def _plan(self, spec: EnvSpec) -> tuple[EnvInfo, Flattener, dict[str, Any]]:
        """What is known, how observations are joined, and EnvPool's settings."""
        import envpool

        name = self.name_of(spec)
        if name not in all_ids():
            raise ValueError(
                f"EnvPool has no environment {name!r}; {did_you_mean(name, all_ids())}"
            )
        known, unused = split_settings(name, spec.settings)
        given, unknown = split_settings(name, spec.kwargs)
        if unknown:
            first = next(iter(unknown))
            config = envpool.make_spec(name).config._asdict()
            names = {*config, *self.own_settings} - MACHINERY
            if first in names & config.keys():
                raise ValueError(
                    f"{name}: env_kwargs: {first}: expected a value like {config[first]!r}, found "
                    f"{unknown[first]!r}"
                )
            raise ValueError(
                f"{name}: env_kwargs: EnvPool has no setting {first}={unknown[first]!r}; "
                f"{did_you_mean(first, names)}{self.hint.format(name=name)}"
            )
        settings = {**self.defaults, **known, **given}
        description = envpool.make_spec(name, **settings)
        with quiet():  # its bounds are float64, those of its spaces float32
            spaces = description.observation_space, description.action_space
        flattener = Flattener(name, spaces[0], spec.obs_keys)
        low, high = action_bounds(name, spaces[1])
        limit = int(description.config.max_episode_steps)
        info = EnvInfo(
            spec.id,
            flattener.obs_dim,
            low,
            high,
            limit,
            dict(versions()),
            flattener.parts,
            tuple(unused),
        )
        return info, flattener, settings

    def make(self, spec: EnvSpec, num_slots: int, *, threads: int, workers: int) -> VectorEnv:
        """A pool with an environment for every slot."""
        info, flattener, settings = self._plan(spec)
        return EnvPoolVector(self.name_of(spec), info, flattener, settings, threads)


class EnvPoolVector:
    """One EnvPool that plays one episode in every slot."""

    def __init__(
        self,
        name: str,
        info: EnvInfo,
        flattener: Flattener,
        settings: Mapping[str, Any],
        threads: int,
    ) -> None:
        """name: EnvPool's.  settings: in EnvPool's terms.  threads: that step the environments."""
        self.name = name
        self.info = info
        self.flattener = flattener
        self.settings = settings
        self.threads = threads
        self.pool: Any = None
        self.is_first = True
        self.unknown, self.false = np.zeros(0), np.zeros(0, bool)  # made once, not at every step

    def start(self, seeds: Sequence[int]) -> None:
        """Makes a new pool: EnvPool fixes its seeds when it is made."""
        import envpool

        self.pool = None  # frees the old one first
        with quiet():
            self.pool = envpool.make(
                self.name,
                env_type="gymnasium",
                num_envs=len(seeds),
                num_threads=self.threads,
                seed=list(seeds),
                **self.settings,
            )
            _ = self.pool.observation_space  # made at the first use
        self.unknown, self.false = np.full(len(seeds), np.nan), np.zeros(len(seeds), bool)
        self.is_first = True

    def send(self, slots: NDArray[np.int64], actions: NDArray[np.float64]) -> None:
        """Begins a step.  A finished slot is not sent: its step would be the automatic reset."""
        self.pool.send(actions, slots.astype(np.int32))

    def recv(self) -> EnvStep:
        """Waits for all slots that were sent."""
        if self.is_first:
            self.is_first = False
            rows = self.flattener.rows(self.pool.reset()[0])
            step = empty_step(range(len(rows)), rows)
            step.first[:] = True
            return step
        obs, reward, terminated, truncated, info = self.pool.recv()
        order = np.argsort(info["env_id"])
        success = next((info[key] for key in SUCCESS_KEYS if key in info), None)
        count = len(order)
        return EnvStep(
            slots=info["env_id"][order].astype(np.int64),
            obs=self.flattener.rows(obs)[order],
            reward=reward[order].astype(np.float64),
            terminated=terminated[order],
            truncated=truncated[order],
            success=self.unknown[:count] if success is None else (success[order] > 0.5) * 1.0,
            first=self.false[:count],
            lost=self.false[:count],
        )

    def close(self) -> None:
        """Frees the pool."""
        self.pool = None


@functools.cache
def all_ids() -> frozenset[str]:
    """Names of EnvPool's environments."""
    with checked_interrupt("while EnvPool was loading"):  # it drops Ctrl-C
        import envpool

        return frozenset(envpool.list_all_envs())


# Fields of EnvPool's config that say how environments are run, not what they are.
MACHINERY = {
    "num_envs", "batch_size", "num_threads", "max_num_players", "thread_affinity_offset",
    "base_path", "seed", "env_seed", "gym_reset_return_info", "xml_file", "frame_stack",
    "gymnasium_v5_render_camera", "task_name",
}  # fmt: skip


def split_settings(
    env_id: str, env_kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that EnvPool knows, in its terms, and those that it does not.

    env_kwargs: as in `Dataset`, arguments of Gymnasium's environment. Ranges such as
    healthy_z_range become healthy_z_min and healthy_z_max. A setting that equals EnvPool's own
    counts as known; one of another type as unknown.
    """
    import envpool

    config = envpool.make_spec(env_id).config._asdict()
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in env_kwargs.items():
        if name in config and config[name] == value:
            continue  # EnvPool's default
        parts = {name: value}
        if name.endswith("_range") and isinstance(value, list | tuple) and len(value) == 2:
            ends = (name.replace("_range", "_min"), name.replace("_range", "_max"))
            parts = dict(zip(ends, value, strict=True))
            if ends[1] not in config and value[1] == math.inf:
                del parts[ends[1]]
        converted = {k: _as_type_of(config.get(k), v) for k, v in parts.items()}
        if MACHINERY & parts.keys() or any(v is None for v in converted.values()):
            unknown[name] = value
        else:
            known |= converted
    return known, unknown


def _as_type_of(default: Any, value: Any) -> Any:
    """The value in the type of EnvPool's default; None where that is not possible."""
    if isinstance(default, bool) or isinstance(value, bool):
        return value if isinstance(default, bool) and isinstance(value, bool) else None
    if isinstance(default, float) and isinstance(value, int | float):
        return float(value)
    if isinstance(default, int) and isinstance(value, int):
        return value if 0 < value < 2**31 else None
    if isinstance(default, str) and isinstance(value, str):
        return value
    return None


@functools.cache
def versions() -> dict[str, str]:
    """Versions of EnvPool and of the MuJoCo inside it, which is not the installed `mujoco`."""
    import envpool.mujoco

    library = Path(envpool.mujoco.__file__).parent / "mujoco_gym_envpool.so"
    physics = "unknown"
    if library.exists():
        version = getattr(ctypes.CDLL(str(library)), "mj_versionString", None)
        if version is not None:
            version.restype = ctypes.c_char_p
            physics = version().decode()
    return {"envpool": importlib.metadata.version("envpool"), "mujoco_in_envpool": physics}
