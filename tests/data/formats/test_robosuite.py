"""robosuite's environments as robomimic's files describe them."""

from typing import Any

import numpy as np
import pytest

from fastifo.data.formats.robosuite import (
    CONTROLLER,
    controller_config,
    object_layout,
    other_layout,
    parse_env_args,
    task_of,
)

OLD_CONTROLLER: dict[str, Any] = {
    "type": "OSC_POSE", "input_max": 1, "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150, "damping": 1, "impedance_mode": "fixed", "kp_limits": [0, 300],
    "damping_limits": [0, 10], "position_limits": None, "orientation_limits": None,
    "uncouple_pos_ori": True, "control_delta": True, "interpolation": None, "ramp_ratio": 0.2,
}  # fmt: skip


def env_args(version: str | None, task: str = "Lift", **changes: Any) -> dict[str, Any]:
    """What robomimic's low-dimensional files state, in the form of the version."""
    new = version is not None and version.startswith("1.5")
    arm = OLD_CONTROLLER | {"input_ref_frame": "world", "gripper": {"type": "GRIP"}}
    composite = {"type": "BASIC", "body_parts": {"right": arm}}
    kwargs = {
        "has_renderer": False, "has_offscreen_renderer": False, "ignore_done": True,
        "use_object_obs": True, "use_camera_obs": False, "control_freq": 20,
        "controller_configs": composite if new else dict(OLD_CONTROLLER), "robots": ["Panda"],
        "camera_depths": False, "camera_heights": 84, "camera_widths": 84, "reward_shaping": False,
    } | ({"lite_physics": False} if new else {}) | changes  # fmt: skip
    content = {"env_name": task, "type": 1, "env_kwargs": kwargs}
    return content if version is None else content | {"env_version": version}


@pytest.mark.parametrize("task", ["Lift", "PickPlaceCan", "NutAssemblySquare", "Door"])
@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("1.5.1", {}),
        ("1.5", {}),
        ("1.10.0", {}),
        ("1.4.1", {"object_layout": "1.4"}),
        ("1.2.0", {"object_layout": "1.4"}),
        (None, {"object_layout": "1.4"}),
    ],
)
def test_published_arguments_of_both_forms_are_the_defaults(
    version: str | None, settings: dict[str, Any], task: str
) -> None:
    assert parse_env_args(env_args(version, task)) == (f"robosuite/{task}", settings)


@pytest.mark.parametrize("version", ["1.4.1", "1.5.1"])
def test_old_names_that_robosuite_1_5_ignores_are_renamed(version: str) -> None:
    args = env_args(version)
    config = args["env_kwargs"]["controller_configs"]
    part = config["body_parts"]["right"] if version == "1.5.1" else config
    part |= {"damping": 2, "damping_limits": [0, 5], "control_delta": False}
    _, settings = parse_env_args(args)
    arm = settings["controller_configs"]["body_parts"]["right"]
    assert {"damping", "damping_limits", "control_delta"} & set(arm) == set()
    assert (arm["damping_ratio"], arm["damping_ratio_limits"]) == (2, [0, 5])
    assert arm["input_type"] == "absolute"
    assert part["damping"] == 2  # the file's own description is left as it is


def test_settings_that_differ_are_kept_and_how_it_is_run_is_not() -> None:
    args = env_args("1.5.1", control_freq=10, robots="Sawyer", camera_heights=256, horizon=300)
    assert parse_env_args(args)[1] == {"control_freq": 10, "robots": ["Sawyer"]}


@pytest.mark.parametrize("args", [None, {}, {"env_name": "Lift"}, {"type": 2, "env_name": "Ant"}])
def test_another_simulators_environment_is_none(args: Any) -> None:
    assert parse_env_args(args) == (None, {})


@pytest.mark.parametrize("version", ["new", "1", "1.x", "-1.4", ""])
def test_a_version_that_is_none_is_named(version: str) -> None:
    with pytest.raises(ValueError, match=r"env_version: expected one such as 1\.4\.1, found"):
        parse_env_args(env_args("1.4.1") | {"env_version": version})


@pytest.mark.parametrize("change", [{"env_name": 3}, {"env_kwargs": []}, {"env_kwargs": None}])
def test_damaged_env_args_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match="env_args: expected a string env_name and a mapping env_kwargs"
    ):
        parse_env_args(env_args("1.5.1") | change)


@pytest.mark.parametrize("config", [[], "OSC_POSE", {}, {"type": "BASIC", "body_parts": [1]}])
def test_a_damaged_controller_is_named(config: Any) -> None:
    with pytest.raises(ValueError, match=r"controller_configs: "):
        controller_config(config)


def test_the_default_controller_is_in_the_new_form() -> None:
    config = {"type": "BASIC", "body_parts": {"right": CONTROLLER}}
    assert controller_config(config) == config


@pytest.mark.parametrize(
    ("version", "layout"),
    [(None, "1.4"), ("1.0", "1.4"), ("1.4.1", "1.4"), ("1.5.2", "1.5"), ("1.12", "1.5"),
     ("2.0.1", "1.5")],
)  # fmt: skip
def test_the_layout_of_a_version(version: str | None, layout: str) -> None:
    assert object_layout(version) == layout


def test_layouts_differ_in_order_or_in_sign() -> None:
    can = np.arange(14.0)
    swapped = np.array([7, 8, 9, 10, 11, 12, 13, 0, 1, 2, 3, 4, 5, 6.0])
    for task in ("PickPlaceCan", "NutAssemblySquare"):
        np.testing.assert_array_equal(other_layout(task, can), swapped)
        np.testing.assert_array_equal(other_layout(task, swapped), can)
    cube = np.arange(20.0).reshape(2, 10)
    signs = np.array([1, 1, 1, 1, 1, 1, 1, -1, -1, -1])
    np.testing.assert_array_equal(other_layout("Lift", cube), cube * signs)


@pytest.mark.parametrize(("task", "width"), [("Door", 14), ("Lift", 14), ("PickPlaceCan", 56)])
def test_a_layout_that_is_not_known_is_refused(task: str, width: int) -> None:
    with pytest.raises(ValueError, match=rf"robosuite/{task}: object: .* found {width} columns"):
        other_layout(task, np.zeros(width))


def test_the_task_of_an_environment_id() -> None:
    assert task_of("robosuite/Lift") == "Lift"
    assert task_of("Hopper-v4") == task_of(None) == task_of("metaworld/robosuite/Lift") == ""
