"""Small problems for the tests of the oracles: configs, one-hot chains, random nets and batches."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the encoder, as in the VfO paper


def make_config(**changed: Any) -> dict[str, Any]:
    """A simple config: gamma 0.99, no encoder, no kernel, 3 bins, weights not capped."""
    config: dict[str, Any] = {
        "gamma": 0.99,
        "temperature": 1.0,
        "alpha": 0.5,
        "max_weight": math.inf,
        "target_period": 200,
        "absorbing": True,
        "advantage_bootstrap": "target",
        "learning_rate": 3e-4,
        "weight_decay": 0.0,
        "decoupled_weight_decay": True,
        "encoder_scales": (),
        "activation": "relu",
        "num_bins": 3,
        "kernel_width": 0.0,
        "kernel_reading": "logits",
        "disc_reward_at": "next",
        "disc_loss": "flat",
        "pu_prior": 0.5,
        "disc_learning_rate": 3e-4,
        "batch_mode": "halves",
    }
    assert set(changed) <= set(config)
    return config | changed


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def table(values: list[list[float]]) -> list[tuple[Tensor, Tensor]]:
    """A linear net without bias; for one-hot observations, row s is the output in state s."""
    weight = torch.tensor(values, dtype=torch.float64)
    return [(weight, torch.zeros(weight.shape[1], dtype=torch.float64))]


def chain_nets(value: list[float]) -> dict[str, list[tuple[Tensor, Tensor]]]:
    policy = [[0.3 * state, -0.2, 0.1] for state in range(len(value))]
    return {"policy": table(policy), "value": table([[v] for v in value])}


def transitions(
    pairs: list[tuple[int, int]],
    terminal: float = 0.0,
    reward: list[float] | None = None,
    num_states: int = 3,
) -> dict[str, Tensor]:
    """One-hot transitions s -> s' with actions -1, 0, 1, -1, ... and one terminal flag for all."""
    state = torch.eye(num_states, dtype=torch.float64)
    rows = {
        "obs": state[[s for s, _ in pairs]],
        "next_obs": state[[s for _, s in pairs]],
        "terminal": torch.full((len(pairs),), terminal, dtype=torch.float64),
        "action": column([float(i % 3 - 1) for i in range(len(pairs))])[:, None],
    }
    return rows if reward is None else rows | {"reward": column(reward)}


def observed(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """The columns that an expert's demonstrations have: no action, no reward."""
    return {name: rows[name] for name in ("obs", "next_obs", "terminal")}


def chain_batch() -> dict[str, Any]:
    """The expert goes s0 -> s1 -> s1, the background s0 -> s2 -> s2.

    At alpha 0.5 and gamma 0.99 the values are v(s0) = 50, v(s1) = 100 and v(s2) = 0.
    """
    return {
        "expert": observed(transitions([(0, 1), (1, 1)])),
        "background": transitions([(0, 2), (2, 2)]),
    }


def random_layers(sizes: list[int], generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    def normal(*shape: int) -> Tensor:
        return 0.5 * torch.randn(*shape, dtype=torch.float64, generator=generator)

    return [(normal(n, m), normal(m)) for n, m in itertools.pairwise(sizes)]


def random_nets(config: dict[str, Any], seed: int = 0) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Nets for 3 observation features and 2 action dimensions."""
    generator = torch.Generator().manual_seed(seed)
    width = 3 * max(1, len(config["encoder_scales"]))
    outputs = {"policy": 2 * config["num_bins"], "value": 1, "discriminator": 1}
    return {name: random_layers([width, 8, 6, n], generator) for name, n in outputs.items()}


def random_batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    def rows() -> dict[str, Tensor]:
        return {
            "obs": torch.randn(size, 3, dtype=torch.float64, generator=generator),
            "next_obs": torch.randn(size, 3, dtype=torch.float64, generator=generator),
            "terminal": (torch.rand(size, generator=generator) < 0.3).to(torch.float64),
            "action": 2 * torch.rand(size, 2, dtype=torch.float64, generator=generator) - 1,
            "reward": torch.randn(size, dtype=torch.float64, generator=generator),
        }

    is_background = (torch.rand(size, generator=generator) < 0.5).to(torch.float64)
    return {"background": rows(), "expert": observed(rows()), "is_background": is_background}


def random_batches(count: int, size: int = 8, seed: int = 1) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    return [random_batch(generator, size) for _ in range(count)]


def net_close(a: Any, b: Any, tolerance: float = 1e-12) -> bool:
    """Whether two nets are equal up to rounding; two orders of summation differ by about 1e-15."""
    pairs = [(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)]
    return all(torch.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in pairs)
