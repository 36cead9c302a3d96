"""Films of policies: an episode of an evaluation, played again with a camera."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.streams import purpose
from fastifo.envs.act import Actor
from fastifo.envs.backends.cameras import own_frame
from fastifo.envs.checks import cameras_of
from fastifo.envs.policy import Policy
from fastifo.envs.pool import start_seed
from fastifo.envs.registry import open_filmed
from fastifo.envs.render import FREE, OWN, Render, check_cameras
from fastifo.envs.spec import EnvSpec
from fastifo.envs.vector import FilmedEnv
from fastifo.utils.arguments import as_count
from fastifo.utils.progress import ProgressBar

SIZE = 256  # pixels, of the frames of a MuJoCo model
PREFERRED = ("agentview", "track", "frontview", "corner2", OWN)  # the first of them that there is


@dataclass(frozen=True)
class Film:
    """One episode."""

    frames: list[NDArray[np.uint8]]  # T + 1 of [H, W, 3]
    return_: float  # undiscounted
    success: float  # 1 if the task succeeded at any step, else 0; nan: unknown
    camera: str
    frames_per_s: float  # in simulated time


def film(
    policy: Actor,
    env: EnvSpec,
    *,
    camera: str = "",
    height: int = SIZE,
    width: int = SIZE,
    episode: int = 0,
    seed: int = 0,
    deterministic: bool = True,
    max_steps: int = 0,
    progress: bool = True,
) -> Film:
    """Plays one episode in this process and films it.

    The policy sees the images that it was trained with; the film may show another camera.

    camera: a name; empty: the first of `PREFERRED` that the environment has, or else any.
    height, width: of the frames; an environment that renders itself has a size of its own.
    episode, seed: it begins as this episode of a rollout with this seed, where the same library
        plays it.
    deterministic: play the mode; False plays a sample.
    max_steps: ends the film; 0: when the episode ends.
    Raises ValueError for a camera that the environment does not have, or an environment that cannot
    be rendered; ImportError naming a library that is missing.
    """
    episode = as_count("episode", episode, low=0)
    max_steps = as_count("max_steps", max_steps, low=0)
    own = open_filmed(env if cameras_of(policy) else env.without_cameras())
    try:
        camera = _choose_camera(own, camera)
        shot = _frames_of(own, camera, Render((camera,), height, width, offsamples=4))
        limit = min(max_steps or own.info.max_episode_steps, own.info.max_episode_steps)
        stream, obs = purpose("evaluate", str(seed)), own.reset(start_seed(seed, episode))
        frames, total, success = [shot()], 0.0, np.nan
        with ProgressBar(f"film {env.id}", limit, "steps", enabled=progress) as bar:
            for step in range(limit):
                if not np.isfinite(obs).all():
                    raise ValueError(
                        f"{env.id}: expected finite observations, found {obs} after step {step}"
                    )
                noise = None if deterministic else policy.noise(stream, step, episode + 1)
                action = _act(policy, obs, own.images(), None if noise is None else noise[-1:])
                action = np.clip(action, own.info.action_low, own.info.action_high)
                obs, reward, terminated, truncated, succeeded = own.step(action)
                frames.append(shot())
                total, success = total + reward, float(np.fmax(success, succeeded))
                bar.update(step + 1, "")
                if terminated or truncated:
                    break
    finally:
        own.close()
    return Film(frames, total, success, camera, own.steps_per_s)


def _choose_camera(env: FilmedEnv, camera: str) -> str:
    known = env.cameras()
    if not known:
        raise ValueError(f"{env.info.name}: has neither a MuJoCo model nor a method render()")
    if camera:
        check_cameras(env.info.name, [camera], known)
        return camera
    others = [name for name in known if name != FREE]
    return next((name for name in PREFERRED if name in known), [*others, FREE][0])


def _frames_of(env: FilmedEnv, camera: str, render: Render) -> Any:
    """A function that returns the current frame."""
    if camera == OWN:
        own: Any = env
        size: list[int] = []  # of the first frame, and then of all

        def shot() -> NDArray[np.uint8]:
            frame = own_frame(env.info.name, own.env, size or None)
            size[:] = frame.shape[:2]
            return frame

        return shot
    stack = env.open_cameras(render)
    return lambda: stack.frames()[camera]


def _act(policy: Actor, obs: Any, images: Any, noise: Tensor | None) -> NDArray[np.float64]:
    """The action of one observation, [A]."""
    rows = torch.from_numpy(obs[None])
    if isinstance(policy, Policy) and policy.cameras:
        views = {camera: torch.from_numpy(image[None]) for camera, image in images.items()}
        action = policy.act_rows(rows, noise, views)
    else:
        action = policy.act_rows(rows, noise)
    return action[0].cpu().numpy().astype(np.float64)
