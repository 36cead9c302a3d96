"""Small datasets and learners for tests."""

import os
import sys
from typing import Any

import torch
from torch import Tensor

import fastifo
from fastifo.algos import ALGORITHMS, find, split
from fastifo.algos.config import expand
from fastifo.algos.learner import InputSpec, Learner
from fastifo.data.sampler import Sampler

OBS_DIM, ACTION_DIM = 3, 2
WIDTHS = {"Hopper-v4": (11, 3), "Ant-v4": (27, 8)}  # of observations and actions

SMALL: dict[str, Any] = {"hidden_sizes": (16, 12), "batch_size": 8, "num_bins": 11}
SMALL_UNET: dict[str, Any] = {  # for methods with a diffusion model
    "unet_width": 8,
    "unet_multipliers": (1, 2),
    "horizon": 4,
    "diffusion_batch_size": 8,
}


def child_environment(**variables: str) -> dict[str, str]:
    """Environment variables with which a subprocess imports what this process does.

    An empty entry of PYTHONPATH is the working directory. In a checkout its source would shadow the
    installed package, so no such entry remains.
    """
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables


def random_dataset(
    seed: int = 0, *, expert: bool = True, reward: bool = True, **fields: Any
) -> fastifo.Dataset:
    """Six random background episodes, two of them terminal, and two demonstrations.

    With an `env_id`, they have the environment's widths.
    """
    generator = torch.Generator().manual_seed(seed)
    obs_dim, action_dim = WIDTHS.get(fields.get("env_id") or "", (OBS_DIM, ACTION_DIM))

    def episode(steps: int, terminal: bool) -> dict[str, Any]:
        return {
            "obs": torch.randn(steps + 1, obs_dim, generator=generator),
            "action": 2 * torch.rand(steps, action_dim, generator=generator) - 1,
            "reward": torch.randn(steps, generator=generator),
            "terminal": terminal,
        }

    background = [episode(5 + i, i % 3 == 0) for i in range(6)]
    if not reward:
        for each in background:
            del each["reward"]
    demos = [{k: episode(7, i == 0)[k] for k in ("obs", "action", "terminal")} for i in range(2)]
    return fastifo.Dataset.from_episodes(background, demos if expert else (), **fields)


def make_learner(name: str, seeds: tuple[int, ...] = (0,), **overrides: Any) -> Any:
    """A float64 learner of small size; a list of field values gives one member per value.

    Returns Any, because methods have different nets as attributes.
    """
    name, backbone = split(name)
    learner_class = find(name, **backbone)
    configs = expand(learner_class.Config, small(name) | overrides)
    seeds = seeds * len(configs) if len(seeds) == 1 else seeds
    configs = configs * len(seeds) if len(configs) == 1 else configs
    return learner_class(configs, seeds, InputSpec(OBS_DIM, ACTION_DIM), "fp64")


def small(name: str) -> dict[str, Any]:
    """Fields that make the nets of a method small."""
    known = vars(ALGORITHMS[name].Config())
    return SMALL | {k: v for k, v in SMALL_UNET.items() if k in known}


class RawSampler(Sampler):
    """A sampler whose `raw` draws the same rows unencoded, for an oracle that encodes itself."""

    raw: Sampler


def make_sampler(learner: Learner, dataset: fastifo.Dataset) -> RawSampler:
    """A sampler of the batches that the engine would draw for the learner's last stage."""
    needs = type(learner).batch_needs(learner.cfg)
    size = learner.batch_rows(learner.cfg)
    fixed = (dataset, learner.seeds, size, needs, "train", torch.device("cpu"), learner.dtype)
    widths: dict[str, Any] = {"noise_width": learner.noise_width, "window": learner.window}
    sampler = RawSampler(*fixed, learner.encoder, **widths)
    sampler.raw = Sampler(*fixed, **widths)
    return sampler


def run_updates(learner: Learner, sampler: Sampler, count: int) -> list[dict[str, Tensor]]:
    """Makes `count` updates as the engine does; returns their metrics."""
    history = []
    for update in range(learner.num_updates, learner.num_updates + count):
        learner.counter.fill_(update)
        learner.phase = update % learner.period
        history.append(learner.update(sampler.draw(learner.counter)))
        learner.num_updates += 1
    return history
