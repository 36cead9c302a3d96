"""SIBench from images: who acts in an image set, what it shows, and what a learner sees.

The expert and its clone act on low-dimensional observations, and their episodes are filmed: the
quality of the background is that of the set without images. A learner sees the images; beside them
in robosuite what the arm knows of itself, as in robomimic's image observations, and elsewhere
nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.formats.robosuite import LOW_DIM, PREFIX
from fastifo.envs.registry import describe
from fastifo.envs.render import SETTING, Render
from fastifo.envs.spec import as_spec

SUFFIX = "/image"  # of an environment's id in a spec
SIZE = 84  # height and width of the images, as in robomimic's
CAMERAS = {True: ("agentview", "robot0_eye_in_hand"), False: ("track",)}  # by: in robosuite
FRAME_STACK = {True: 1, False: 3}  # one frame shows no velocities, which locomotion needs


def render_of(env_id: str, cameras: str, size: int, frame_stack: int) -> Render:
    """The cameras of a set.  cameras: names joined by +.  An empty text and 0 are the defaults.

    Raises ValueError for a wrong value.
    """
    is_robosuite = env_id.startswith(PREFIX)
    return Render(
        tuple(cameras.split("+")) if cameras else CAMERAS[is_robosuite],
        size or SIZE,
        size or SIZE,
        frame_stack=frame_stack or FRAME_STACK[is_robosuite],
    )


def without_state(dataset: Dataset) -> Dataset:
    """The dataset as a learner sees it: without the observations that images stand for.

    dataset: with images; its `env_kwargs` say how they were rendered.
    """
    assert dataset.env_id is not None
    if dataset.env_id.startswith(PREFIX):
        keys = tuple(key for key in dataset.obs_keys or LOW_DIM if key != "object")
        columns = _columns_of(dataset, keys)
        return _replace_obs(dataset, lambda obs: obs[:, columns].clone(), obs_keys=keys)
    render = Render.parse(dataset.env_kwargs[SETTING])
    hidden = dataclasses.replace(render, state=False).to_json()
    kwargs = {**dataset.env_kwargs, SETTING: hidden}
    return _replace_obs(dataset, lambda obs: obs.new_zeros(len(obs), 1), env_kwargs=kwargs)


def _columns_of(dataset: Dataset, keys: tuple[str, ...]) -> Tensor:
    """Columns of the observation that hold these parts of it."""
    assert dataset.env_id is not None
    spec = as_spec(dataset.env_id, settings=dataset.env_kwargs, obs_keys=dataset.obs_keys)
    columns: dict[str, Tensor] = {}
    first = 0
    for key, width in describe(spec).obs_parts:
        columns[key] = torch.arange(first, first + width, device="cpu")
        first += width
    return torch.cat([columns[key] for key in keys])


def _replace_obs(dataset: Dataset, change: Callable[[Tensor], Tensor], **fields: Any) -> Dataset:
    def changed(episodes: Episodes) -> Episodes:
        return dataclasses.replace(episodes, obs=change(episodes.obs))

    expert = None if dataset.expert is None else changed(dataset.expert)
    background = changed(dataset.background)
    return dataclasses.replace(dataset, background=background, expert=expert, **fields)
