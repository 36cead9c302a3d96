"""Demonstrations: episodes of an expert policy, or of a dataset, with what is known about them."""

import dataclasses

import torch

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.load import load
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.experts import Expert
from fastifo.envs.rollout import collect

NOISELESS_EPISODES = 50  # of the expert's mean action; reports show their returns
SEED_BLOCK = 700  # environment seeds; evaluation and the other parts of a benchmark use others


def play_demonstrations(
    expert: Expert,
    env_id: str,
    count: int,
    seed: int,
    noise: float,
    *,
    progress: bool = True,
) -> Dataset:
    """Plays `count` episodes of an expert.

    noise: standard deviation of the actions, relative to the expert's own exploration noise; an
    expert without exploration noise plays its mean action.
    Returns a dataset whose background is the episodes, with their actions; `info` has the noise,
    the expert's file, returns of the expert without noise, and statistics of the returns.
    """
    noise = expert.noise_scale = 0.0 if expert.deviation is None else noise
    episodes = collect(
        expert,
        env_id,
        count,
        noise == 0.0,
        seed=SEED_BLOCK + seed,
        title="demonstrations",
        progress=progress,
    )
    expert.noise_scale = 0.0
    noiseless = evaluate_policies([expert], env_id, NOISELESS_EPISODES, True, progress=progress)
    info = {
        "demonstration_noise": noise,
        "expert": expert.provenance(),
        "expert_returns": [round(value, 3) for value in noiseless.returns[0].tolist()],
    }
    return Dataset(episodes, env_id=env_id, info=info | return_statistics(episodes))


def sample_demonstrations(
    source: str, env_id: str, count: int, seed: int, *, progress: bool = True
) -> Dataset:
    """Draws at most `count` background episodes of a dataset, in random order.

    source: file or spec of the dataset.  Returns a dataset as `play_demonstrations` does.
    Raises ValueError where the dataset has no actions.
    """
    dataset = load(source, progress=progress)
    background = dataset.background
    if background.action is None:
        raise ValueError(f"demonstrations {source}: expected actions to clone, found none")
    count = min(count, background.num_episodes)
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(background.num_episodes, generator=generator, device="cpu")
    episodes = background.take(order[:count].tolist())
    info = {"expert": {"file": source, "source": "demonstrations"}}
    notes = {"notes": dataset.info["notes"]} if "notes" in dataset.info else {}
    return dataclasses.replace(
        dataset,
        background=episodes,
        expert=None,
        env_id=env_id,
        info=info | notes | return_statistics(episodes),
        unverified=(),
    )


def return_statistics(episodes: Episodes) -> dict[str, float]:
    """Mean and standard deviation of the undiscounted returns; empty without rewards."""
    returns = episodes.returns()
    if returns is None:
        return {}
    return {
        "demonstration_return_mean": float(returns.mean()),
        "demonstration_return_std": float(returns.std(correction=0)),
    }
