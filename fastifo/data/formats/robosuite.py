"""Descriptions of robosuite environments in robomimic files; needs neither package.

A file's `env_args` holds the task's name, robosuite's version and the arguments of the environment,
in the form of robosuite 1.4 (and older) or 1.5. Both are converted to that of 1.5.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREFIX = "robosuite/"  # of environment ids
LOW_DIM = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
ROBOSUITE_TYPE = 1  # `type` in robomimic's env_args
# The order and the signs of `object` changed with robosuite 1.5.
OLD, NEW = "1.4", "1.5"
POSES = ("PickPlaceCan", "PickPlaceMilk", "PickPlaceBread", "PickPlaceCereal",
         "NutAssemblySquare", "NutAssemblyRound")  # fmt: skip
OBJECT_WIDTHS = {"Lift": 10} | dict.fromkeys(POSES, 14)
# Arguments of robosuite's environments that say how they are run, not what they are.
MACHINERY = {
    "has_renderer", "has_offscreen_renderer", "ignore_done", "use_object_obs", "use_camera_obs",
    "camera_depths", "camera_heights", "camera_widths", "camera_names", "camera_segmentations",
    "render_gpu_device_id", "render_camera", "render_collision_mesh", "render_visual_mesh",
    "renderer", "renderer_config", "hard_reset", "seed", "horizon", "postprocess_visual_obs",
}  # fmt: skip
CONTROLLER: dict[str, Any] = {  # of one arm, as in robomimic's files
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "input_type": "delta",
    "input_ref_frame": "world",
    "interpolation": None,
    "ramp_ratio": 0.2,
    "gripper": {"type": "GRIP"},
}
DEFAULTS: dict[str, Any] = {  # arguments of the environments in robomimic's files
    "robots": ["Panda"],
    "controller_configs": {"type": "BASIC", "body_parts": {"right": CONTROLLER}},
    "control_freq": 20,
    "reward_shaping": False,
    "lite_physics": False,
}
RENAMED = {"damping": "damping_ratio", "damping_limits": "damping_ratio_limits"}  # in 1.5


def task_of(env_id: str | None) -> str:
    """The task of an environment id, as in robosuite/Lift; empty for another simulator's."""
    return env_id.removeprefix(PREFIX) if env_id and env_id.startswith(PREFIX) else ""


def parse_env_args(env_args: Any) -> tuple[str | None, dict[str, Any]]:
    """The environment that robomimic's `env_args` describe: its id and its settings.

    The settings are those that differ from `DEFAULTS`, with robosuite 1.5's names, and
    `object_layout` where the observation `object` is that of robosuite 1.4.
    The id is None, and the settings are empty, for another simulator's environment.
    Raises ValueError for a version or arguments that are not understood.
    """
    if not isinstance(env_args, Mapping) or env_args.get("type") != ROBOSUITE_TYPE:
        return None, {}
    name, kwargs = env_args.get("env_name"), env_args.get("env_kwargs")
    if not isinstance(name, str) or not isinstance(kwargs, Mapping):
        raise ValueError(
            "env_args: expected a string env_name and a mapping env_kwargs, found "
            f"{json.dumps(env_args)[:200]}"
        )
    settings = {k: v for k, v in kwargs.items() if k not in MACHINERY and k != "env_name"}
    if settings.get("controller_configs") is not None:
        settings["controller_configs"] = controller_config(settings["controller_configs"])
    if isinstance(settings.get("robots"), str):
        settings["robots"] = [settings["robots"]]
    settings = {k: v for k, v in settings.items() if k not in DEFAULTS or DEFAULTS[k] != v}
    if object_layout(env_args.get("env_version")) == OLD:
        settings["object_layout"] = OLD
    return PREFIX + name, settings


def object_layout(version: Any) -> str:
    """The layout of `object` in a version of robosuite; files without one are older than 1.5.

    Raises ValueError for a version that is not two or three numbers.
    """
    if version is None:
        return OLD
    parts = str(version).split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts[:2]):
        raise ValueError(f"env_args: env_version: expected one such as 1.4.1, found {version!r}")
    return OLD if (int(parts[0]), int(parts[1])) < (1, 5) else NEW


def controller_config(config: Any) -> dict[str, Any]:
    """A controller in the form of robosuite 1.5, in which a composite one has body parts.

    config: in this form, or the flat form of robosuite up to 1.4, for its one arm. 1.5 ignores
    the old names `damping`, `damping_limits` and `control_delta`; they are renamed.
    Raises ValueError for something else.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("type"), str):
        raise ValueError(
            f"controller_configs: expected a mapping with a type, found {str(config)[:200]}"
        )
    result: dict[str, Any] = copy.deepcopy(dict(config))
    if "body_parts" not in result:
        arm = {"input_ref_frame": "world", "gripper": {"type": "GRIP"}} | result
        result = {"type": "BASIC", "body_parts": {"right": arm}}
    parts = result["body_parts"]
    if not isinstance(parts, Mapping) or not all(isinstance(p, Mapping) for p in parts.values()):
        raise ValueError("controller_configs: body_parts: expected a mapping of mappings")
    result["body_parts"] = {name: _renamed(part) for name, part in parts.items()}
    return result


def _renamed(part: Mapping[str, Any]) -> dict[str, Any]:
    result = {RENAMED.get(name, name): value for name, value in part.items()}
    if "control_delta" in result:
        result["input_type"] = "delta" if result.pop("control_delta") else "absolute"
    return result


def other_layout(task: str, values: NDArray[Any]) -> NDArray[Any]:
    """`object` of robosuite 1.4 in the layout of 1.5, or the other way round.

    values: [..., D].
    Up to 1.4 the absolute pose comes before the pose in the gripper (PickPlace and NutAssembly
    with one object), and the vector between gripper and cube points to the gripper (Lift).
    Raises ValueError for tasks whose layouts are not known, and for another width.
    """
    width = OBJECT_WIDTHS.get(task)
    if width is None or values.shape[-1] != width:
        raise ValueError(
            f"{PREFIX}{task}: object: expected a task whose layout in robosuite 1.4 is known "
            f"({', '.join(f'{k}: {v} wide' for k, v in OBJECT_WIDTHS.items())}), found "
            f"{values.shape[-1]} columns"
        )
    if task == "Lift":
        return np.concatenate([values[..., :7], -values[..., 7:]], -1)
    return np.concatenate([values[..., 7:], values[..., :7]], -1)


def check_same_layout(
    expert: tuple[Any, str | None, Mapping[str, Any]],
    background: tuple[str | None, Mapping[str, Any]],
) -> None:
    """Raises ValueError if two sources of one robosuite task differ in the layout of `object`.

    expert: its spec, environment and settings.  background: its environment and settings.
    """
    (spec, expert_id, expert_kwargs), (env_id, env_kwargs) = expert, background
    first, second = (str(k.get("object_layout", NEW)) for k in (expert_kwargs, env_kwargs))
    if task_of(env_id) and env_id == expert_id and first != second:
        raise ValueError(
            f"expert {spec}: its observation object has the layout of robosuite {first}, the "
            f"background's has that of {second}; add ,object_layout={second} to the "
            f"expert's spec, or env.object_layout={first} to that of generated data"
        )
