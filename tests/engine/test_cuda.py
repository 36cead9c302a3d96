"""Training on a GPU, compared with the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from engine.runs import ALL, short
from fastifo.envs.act import PolicyBatch, SamplingStep, batch_key
from helpers import SMALL, random_dataset, small

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ALL),
    *(
        (name, {"preset": "orig"})
        for name in ("bc", "bco", "smodice", "lobsdice", "pw_dice", "dilo", "tailo")
    ),
    ("vfo_bin", {"seeds": [0]}),  # products of a single member take another path
    ("vfo_bin", {"standardize_obs": True, "kernel_reading": "probs"}),
    ("vfo_disc", {"policy_batch": "separate", "batch_mode": "bernoulli"}),
    ("smodice", {"divergence": "chi2", "gradient_penalty": 10}),
    ("iql", {"preset": "jax"}),
    ("iql", {"policy_dropout": 0.1, "policy_decay_updates": 15}),
    ("tge", {"diffusion_updates": 25, "ema_start": 12}),
]


@pytest.mark.parametrize(("name", "case"), CASES, ids=str)
def test_training_on_a_gpu_equals_training_on_the_cpu(
    name: str, case: dict[str, Any], cuda_device: torch.device
) -> None:
    fields = dict(small(name), num_updates=20, precision="fp64", seeds=[0, 1], progress=False)
    fields |= short(name) | case
    on_gpu = fastifo.train(name, random_dataset(), device=cuda_device.type, **fields)
    on_cpu = fastifo.train(name, random_dataset(), device="cpu", **fields)
    pairs = zip(on_gpu.learners[0].parameters(), on_cpu.learners[0].parameters(), strict=True)
    for actual, expected in pairs:
        # Batches are equal exactly; sums run in another order, and Adam amplifies the difference.
        torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("precision", "share"), [("fp32", 1e-3), ("tf32", 0.1), ("bf16", 0.1)])
def test_low_precision_on_a_gpu_stays_near_double_precision_on_the_cpu(
    precision: str, share: float, cuda_device: torch.device
) -> None:
    def trained(num_updates: int, device: str, precision: str) -> torch.Tensor:
        run = fastifo.train(
            "vfo_bin", random_dataset(), num_updates=num_updates, seeds=[0, 1], device=device,
            precision=precision, progress=False, **SMALL,
        )  # fmt: skip
        weights = [p.detach().cpu().double().flatten() for p in run.learners[0].parameters()]
        return torch.cat(weights)

    low = trained(20, cuda_device.type, precision)
    exact, early = (trained(count, "cpu", "fp64") for count in (20, 1))
    # Relative to the distance that training moves the weights; on a CPU the error of fp32 is 5e-6
    # of it, that of bf16 is 0.03.
    assert float((low - exact).norm()) < share * float((exact - early).norm())


@pytest.mark.parametrize("name", ["vfo_disc", "rebrac"])
def test_a_run_on_a_gpu_continues_from_its_checkpoint(
    name: str, cuda_device: torch.device, tmp_path: Path
) -> None:
    fields = dict(small(name), precision="fp64", progress=False, device=cuda_device.type)
    fields |= short(name)
    fastifo.train(name, random_dataset(), num_updates=11, out=tmp_path / "run", **fields)
    resumed = fastifo.train(name, random_dataset(), num_updates=20, out=tmp_path / "run", **fields)
    uninterrupted = fastifo.train(name, random_dataset(), num_updates=20, **fields)
    pairs = zip(
        resumed.learners[0].parameters(), uninterrupted.learners[0].parameters(), strict=True
    )
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


def test_policies_trained_on_a_gpu_act_together_on_the_cpu(cuda_device: torch.device) -> None:
    fields = dict(SMALL, num_updates=5, progress=False)
    run = fastifo.train("vfo_bin", random_dataset(), device=cuda_device.type, **fields)
    assert run.precision == "tf32"
    policy = run.policy().to(torch.device("cpu"))
    assert batch_key(policy) is not None
    sampling = SamplingStep(7, 3, 4)
    obs, rows = torch.randn(4, 3), np.arange(4)
    expected = policy.act_rows(obs, policy.noise(sampling.stream, sampling.step, 4))
    actual = PolicyBatch([policy]).act(obs, np.array([0, 4]), rows, sampling)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_a_policy_trained_on_a_gpu_acts_on_cpu_observations(cuda_device: torch.device) -> None:
    fields = dict(SMALL, num_updates=5, progress=False)
    run = fastifo.train("vfo_bin", random_dataset(), device=cuda_device.type, **fields)
    obs = torch.randn(4, 3)
    for deterministic in (True, False):
        action = run.policy().act(obs, deterministic)
        assert action.device == obs.device
        assert action.abs().max() <= 1.0
