"""Checks that an environment matches the data and the policies."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastifo.envs.act import Actor
from fastifo.envs.policy import Policy
from fastifo.envs.registry import describe
from fastifo.envs.spec import EnvInfo, EnvSpec
from fastifo.nn.pixels import CameraSpec

TOLERANCE = 1e-4  # of bounds that went through float32 or text


def check_env(
    spec: EnvSpec,
    obs_dim: int,
    action_dim: int,
    low: Tensor | None,
    high: Tensor | None,
    images: Sequence[CameraSpec] = (),
) -> EnvInfo:
    """Checks an environment before anything is trained for it.

    obs_dim, action_dim: of the data.  low, high: bounds of the data's actions, [A]; None: [-1, 1].
    images: that policies see, as in `EnvInfo`; without any, the environment's cameras do not count.
    Returns what is known about the environment.
    Raises ValueError unless it exists and has these widths, suitable bounds, and these images.
    """
    info = describe(spec if images else spec.without_cameras())
    _check_images(info, images)
    for name, width, actual, text in (
        ("observation", obs_dim, info.obs_dim, info.obs_text),
        ("action", action_dim, info.action_dim, f"{info.action_dim} wide"),
    ):
        if actual != width:
            hint = "; obs_keys chooses its parts" if info.obs_parts and name[0] == "o" else ""
            raise ValueError(
                f"{info.name}: its {name}s are {text}, those of the data {width}; name the "
                f"environment that the data come from{hint}"
            )
    _check_bounds(info, low, high)
    return info


def _check_images(info: EnvInfo, images: Sequence[CameraSpec]) -> None:
    """Raises ValueError for images that the environment does not render, or in another size."""
    rendered = {camera: tuple(size) for camera, *size in info.images}
    for camera, *size in images:
        if camera not in rendered:
            known = ", ".join(rendered) or "none"
            raise ValueError(
                f"{info.name}: expected the camera {camera!r} of the data, found {known}; pass "
                "env_kwargs={'render': {'cameras': [...], ...}} for data that do not state it"
            )
        if rendered[camera] != tuple(size):
            found, expected = (" x ".join(map(str, s)) for s in (rendered[camera], size))
            raise ValueError(
                f"{info.name}: camera {camera}: expected images of {expected}, as in the data, "
                f"found {found}; change render's height, width or frame_stack in env_kwargs"
            )


def _check_bounds(info: EnvInfo, low: Tensor | None, high: Tensor | None) -> None:
    """Raises ValueError if actions of the data's range are not actions of the environment.

    Data that state their bounds may use a part of the environment's range.
    """
    is_stated = low is not None and high is not None
    ones = np.ones(info.action_dim)
    data_low = -ones if low is None else low.double().numpy()
    data_high = ones if high is None else high.double().numpy()
    env_low, env_high = info.action_low, info.action_high
    slack = TOLERANCE * np.where(np.isfinite(env_high - env_low), env_high - env_low, 0.0)
    is_inside = (data_low >= env_low - slack) & (data_high <= env_high + slack)
    bounded = np.isfinite(env_low) & np.isfinite(env_high)
    is_equal = (data_low <= env_low + slack) & (data_high >= env_high - slack)
    wrong = ~(is_inside if is_stated else is_inside & (is_equal | ~bounded))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{info.name}: its actions are in [{env_low[i]:g}, {env_high[i]:g}], those of the data "
            f"in [{data_low[i]:g}, {data_high[i]:g}] (dimension {i}); pass action_low and "
            "action_high where the data are made or loaded, or name the environment that they come "
            "from"
        )


def cameras_of(actor: Actor) -> tuple[CameraSpec, ...]:
    """Name, height, width and channels of each camera that an actor reads; often none."""
    return actor.cameras if isinstance(actor, Policy) else ()


def check_policy(policy: Actor, info: EnvInfo) -> None:
    """Raises ValueError where the policy was trained for other observations, images or actions."""
    cameras = cameras_of(policy)
    _check_images(info, cameras)
    try:
        obs = torch.zeros(1, info.obs_dim, dtype=torch.float32, device="cpu")
        if isinstance(policy, Policy) and cameras:
            images = {name: torch.zeros(1, *size, dtype=torch.uint8) for name, *size in cameras}
            width = policy.act_rows(obs, None, images).shape[1]
        else:
            width = policy.act_rows(obs, None).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"{info.name}: its observations are {info.obs_text}, which the policy does not accept "
            f"({error}); name the environment that the policy was trained for"
        ) from None
    if width != info.action_dim:
        raise ValueError(
            f"{info.name}: expected actions {info.action_dim} wide, found a policy with {width}; "
            "name the environment that the policy was trained for"
        )
