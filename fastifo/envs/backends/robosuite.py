"""robosuite: manipulation tasks in worker processes, configured as in robomimic's files.

Ids are robosuite/Lift, robosuite/PickPlaceCan, robosuite/NutAssemblySquare and the other tasks. The
observation is robomimic's low-dimensional one, in the order of `obs_keys` (by default `object`,
`robot0_eef_pos`, `robot0_eef_quat`, `robot0_gripper_qpos`). The defaults are those of robomimic's
files: a Panda arm with OSC_POSE deltas at 20 Hz and a sparse reward, 1 at success, which ends the
episode. Settings are the arguments of robosuite's environments and

- `object_layout`: "1.5" or "1.4", whose `object` differs in order and signs;
- `success_terminal`: true: success is terminal; false: success truncates the episode, and values
  are bootstrapped from its last observation;
- `max_episode_steps`: 400 by default (700 for TwoArmTransport and ToolHang).

All episodes use the objects that robosuite builds with seed 0.
"""

import functools
import multiprocessing
import os

import numpy as np

from fastifo.data.formats.robosuite import LOW_DIM, OBJECT_WIDTHS, PREFIX, task_of
from fastifo.envs.backends.offscreen import choose_library
from fastifo.envs.backends.robosuite_env import (
    EVERYWHERE,
    OWN,
    RobosuiteEnv,
    check_installed,
    is_installed,
    own_settings,
    time_limit,
    versions,
)
from fastifo.envs.lanes import LaneVector
from fastifo.envs.render import check_cameras
from fastifo.envs.spec import EnvInfo, EnvSpec
from fastifo.envs.vector import VectorEnv
from fastifo.envs.workers import WorkerLanes

LANES = 2  # environments of one process: more would cost memory and save no time
TASKS = (
    "Door", "Lift", "NutAssembly", "NutAssemblyRound", "NutAssemblySingle", "NutAssemblySquare",
    "PickPlace", "PickPlaceBread", "PickPlaceCan", "PickPlaceCereal", "PickPlaceMilk",
    "PickPlaceSingle", "Stack", "ToolHang", "TwoArmHandover", "TwoArmLift", "TwoArmPegInHole",
    "TwoArmTransport", "Wipe",
)  # fmt: skip
KEY_WIDTHS = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
CAMERAS = (  # of the tasks with one object and robomimic's arm
    "free", "frontview", "birdview", "agentview", "sideview", "robot0_robotview",
    "robot0_eye_in_hand",
)  # fmt: skip
WIDTHS_STAY = {*OWN, *EVERYWHERE, "reward_shaping", "control_freq"}  # whatever their values
ACTION_DIM = 7  # of one arm with OSC_POSE and a gripper


class RobosuiteBackend:
    """robosuite's environments, which hold the GIL and therefore step in worker processes."""

    has_async_steps = False
    max_slots = 2048

    def knows(self, env_id: str) -> bool:
        """Whether the id has robosuite's prefix."""
        return env_id.startswith(PREFIX)

    def ids(self) -> list[str]:
        """All tasks; empty if robosuite is not installed."""
        return [PREFIX + task for task in TASKS] if is_installed() else []

    def describe(self, spec: EnvSpec) -> EnvInfo:
        """What is known about a task; builds it unless it is one with robomimic's arm."""
        check_installed(spec.id)
        return _known_info(spec) or _built_info(spec)

    def single(self, spec: EnvSpec) -> RobosuiteEnv:
        """One environment in this process.  Raises as `RobosuiteEnv`."""
        return RobosuiteEnv(spec)

    def make(self, spec: EnvSpec, num_slots: int, *, threads: int, workers: int) -> VectorEnv:
        """Up to `LANES` environments in each process; by default a process for each core.

        Inside a worker process of fastifo, the default is a process for each of its threads.
        """
        check_installed(spec.id)
        if workers == 0:
            is_worker = multiprocessing.parent_process() is not None
            workers = threads if is_worker else len(os.sched_getaffinity(0))
        workers = min(workers, num_slots)
        make = functools.partial(RobosuiteEnv, spec)
        lanes = min(num_slots, LANES * workers)
        is_own = task_of(spec.id) not in TASKS
        return LaneVector(WorkerLanes(make, lanes, workers, needs_script=is_own))


def _known_info(spec: EnvSpec) -> EnvInfo | None:
    """The sizes of the tasks with one object and robomimic's arm; None for others."""
    task, keys = task_of(spec.id), spec.obs_keys or LOW_DIM
    widths = KEY_WIDTHS | {"object": OBJECT_WIDTHS.get(task, 0)}
    settings = {**spec.settings, **spec.kwargs}
    own_settings(spec)
    if task not in OBJECT_WIDTHS or not set(keys) <= set(widths):
        return None
    if not set(settings) <= WIDTHS_STAY:
        return None
    parts: tuple[tuple[str, int], ...] = tuple((key, widths[key]) for key in keys)
    ones, width = np.ones(ACTION_DIM), sum(width for _, width in parts)
    render = spec.render
    if render is not None:
        check_cameras(spec.id, render.cameras, CAMERAS)
        choose_library(spec.id)
        if not render.state:
            parts, width = (), 1
    images = () if render is None else render.images
    return EnvInfo(spec.id, width, -ones, ones, time_limit(spec), versions(), parts, images=images)


def _built_info(spec: EnvSpec) -> EnvInfo:
    env = RobosuiteEnv(spec)
    env.close()
    return env.info
