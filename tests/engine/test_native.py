"""The native engine, compared with the torch learners that define its results."""

import dataclasses
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fastifo
from engine.runs import NATIVE, STEADY, state, train
from fastifo import _C
from fastifo.engine.metrics import read_metrics
from fastifo.nn.heads import NormalPolicy
from helpers import child_environment, random_dataset

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NATIVE),
    ("bc", {"hidden_sizes": ()}),
    ("bc", {"hidden_sizes": (7,), "batch_size": 1, "num_bins": 2}),
    ("bc", {"hidden_sizes": (33, 16, 5), "batch_size": 33, "encoder_scales": ()}),
    ("bc", {"hidden_sizes": (9, 1), "seeds": [0, 1, 2, 3]}),
    ("bc", {"kernel_reading": "none", "weight_decay": 0.1}),
    ("bc", {"standardize_obs": True, "weight_decay": 0.1, "decoupled_weight_decay": False}),
    ("bc", {"policy_head": "deterministic", "batch_size": 40, "standardize_obs": True}),
    ("awr", {"policy_head": "deterministic", "temperature": [0.1, 1.0], "batch_size": 33}),
    ("awr", {"target_period": 3, "batch_size": 17, "max_weight": 1.5}),
    ("awr", {"advantage_bootstrap": "online", "advantage_absorbing": False, "target_period": 7}),
    ("awr", {"absorbing": False, "kernel_width": [0.02, 0.5]}),
    ("vfo_bin", {"target_period": 5, "alpha": [0.0, 0.3, 1.0], "batch_size": 300}),
    ("vfo_bin", {"hidden_sizes": (1, 7), "seeds": [0, 1, 2]}),
    ("vfo_bin", {"batch_mode": "bernoulli", "alpha": 0.7, "batch_size": 20}),
    ("vfo_bin", {"policy_batch": "separate", "target_period": 2}),
    ("vfo_bin", {"policy_batch": "separate", "batch_mode": "bernoulli", "batch_size": 19}),
    ("vfo_bin", {"advantage_bootstrap": "online", "temperature": [0.1, 1.0], "target_period": 4}),
    ("vfo_disc", {"disc_loss": "pu", "pu_prior": [0.2, 0.8], "disc_reward_at": "current"}),
    ("vfo_disc", {"policy_batch": "separate", "seeds": [3, 1], "disc_learning_rate": 1e-2}),
    ("bco", {"label": "sample", "batch_size": 34, "inverse_updates": 50}),
    ("bco", {"clones": "expert", "inverse_updates": 50}),
    ("bco", {"policy_head": "deterministic", "batch_size": 34, "inverse_updates": 50}),
    ("sqil", {"policy_head": "deterministic", "batch_size": 17}),
    ("sqil", {"policy_alpha": [0.2, 1.0], "advantage_bootstrap": "online", "batch_size": 17}),
    ("smodice", {"divergence": "chi2", "absorbing": True, "weight_decay": 0.1}),
    ("smodice", {"normalizes": False, "max_weight": 2.0, "logit_clamp": [0.1, 10.0]}),
    ("smodice", {"divergence": "chi2", "normalizes": False, "value_weight_decay": 0.1}),
    ("smodice", {"divergence": "chi2", "gradient_penalty": 10, "disc_batch_size": 33}),
    ("lobsdice", {"kl_weight": [0.0, 2.0], "absorbing": True, "disc_loss": "pu"}),
    ("lobsdice", {"max_weight": 1.5, "logit_clamp": 0.1, "weight_decay": 0.1, "batch_size": 17}),
    ("pw_dice", {"coupling_temperature": [0.1, 2.0], "temperature": 2.0, "embedding_dim": 5}),
    ("pw_dice", {"max_weight": 1.2, "logit_clamp": 0.05, "ratio_scale": 3.0, "batch_size": 33}),
    (
        "pw_dice",
        {"distance_scale": 0.0, "policy_learning_rate": 1e-2, "embedding_hidden_sizes": ()},
    ),
    ("pw_dice", {"policy_head": "deterministic", "batch_size": 17, "seeds": [3, 1]}),
    ("pw_dice", {"batch_size": 300, "hidden_sizes": (), "embedding_hidden_sizes": (40,)}),
    ("tailo", {"negative_share": [0.3, 0.9], "batch_size": 33}),
    ("dilo", {"beta": [0.3, 0.9], "inverse_temperature": 1.0, "policy_learning_rate": 1e-2}),
    ("dilo", {"residual_share": 0.4, "max_weight": 1.001, "batch_size": 40}),
    ("dilo", {"policy_head": "deterministic", "batch_size": 17, "seeds": [0, 1]}),
    ("oril", {"disc_loss": "pu", "target_period": 7}),
    ("iql", {"expectile": [0.5, 0.9], "batch_size": 33, "polyak": 0.3, "weight_decay": 0.1}),
    ("iql", {"policy_head": "binned", "inverse_temperature": [0.0, 10.0], "batch_size": 17}),
    ("iql", {"policy_head": "deterministic", "batch_size": 33, "polyak": 0.001}),
    ("iql", {"preset": "jax", "expectile": [0.6, 0.9], "batch_size": 33}),
    ("iql", {"value_first": True, "policy_head": "deterministic", "inverse_temperature": 10.0}),
    ("iql", {"policy_decay_updates": 150, "absorbing": True, "max_weight": 1.2}),
    ("iql", {"encoder_scales": (0.1, 1.0), "standardize_obs": False, "batch_size": 300}),
    ("rebrac", {"policy_penalty": [0.4, 0.01], "critic_penalty": 1.5, "polyak": 0.3}),
    ("rebrac", {"critic_layer_norm": False, "normalizes_q": False, "hidden_sizes": (33, 5)}),
    ("rebrac", {"batch_size": 72, "hidden_sizes": (40, 17, 70), "weight_decay": 0.1}),
    ("rebrac", {"hidden_sizes": (), "absorbing": True, "policy_noise": 0.0, "batch_size": 17}),
    ("rebrac", {"encoder_scales": (0.1, 1.0), "standardize_obs": True, "noise_clip": 0.1}),
    ("rebrac", {"critic_learning_rate": 1e-2, "seeds": [3, 1]}),
    ("seabo", {"reward_scaling": "none"}),
    ("seabo", {"backbone": "rebrac"}),
    ("tge", {"diffusion_updates": 3}),
]


def distance(a: fastifo.Run, b: fastifo.Run) -> float:
    """The largest relative distance between any net's parameters, targets or moments."""
    actual, expected = state(a), state(b)
    assert actual.keys() == expected.keys()
    return max(
        float((value - expected[name]).norm() / expected[name].norm().clamp(min=1e-12))
        for name, value in actual.items()
        if value.is_floating_point() and name.split(".")[1] != "encoder"
    )


def metrics(folder: Path) -> list[dict[str, Any]]:
    return read_metrics(folder / "metrics.jsonl")


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=str)
@pytest.mark.slow
def test_200_updates_in_double_precision_equal_the_learner(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    if name == "pw_dice":  # or two biases would follow rounding errors in double precision too
        fields = STEADY[name] | fields
    both = [
        train(
            name, random_dataset(), 200, precision="fp64", engine=engine, out=tmp_path / engine,
            **fields,
        )
        for engine in ("native", "torch")
    ]  # fmt: skip
    assert both[0].engine == "native"
    assert both[1].engine == "torch"
    assert distance(*both) < 1e-10  # sums run in another order, in each of 200 updates
    for native, expected in zip(*(metrics(tmp_path / e) for e in ("native", "torch")), strict=True):
        assert native.keys() == expected.keys()
        for key, value in expected.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=1e-9, abs=1e-10)
            assert native[key] == near, key


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.slow
def test_single_precision_equals_the_learner(
    name: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.ISA", isa)
    fields: dict[str, Any] = {"hidden_sizes": (70, 40), "batch_size": 50, "log_every": 200}
    fields |= STEADY.get(name, {})
    native = train(name, random_dataset(), 200, engine="native", **fields)
    single = train(name, random_dataset(), 200, engine="torch", **fields)
    exact = train(name, random_dataset(), 200, engine="torch", precision="fp64", **fields)
    # Adam divides by gradients that are nearly 0, so rounding errors grow. The first bound is
    # measured; by the second, native is about as far from the exact result as torch is.
    assert distance(native, single) < 1e-4
    assert distance(_double(native), exact) < 3 * distance(_double(single), exact) + 1e-6


@pytest.mark.parametrize(("log_std", "narrow"), [(-20.5, False), (2.5, False), (-5.5, True)])
def test_a_log_std_outside_its_limits_does_not_change_in_either_engine(
    log_std: float, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = NormalPolicy.__init__

    def extreme(self: NormalPolicy, *arguments: Any) -> None:
        original(self, *arguments)
        torch.nn.init.constant_(self.log_std, log_std)

    monkeypatch.setattr(NormalPolicy, "__init__", extreme)
    both = [
        train("iql", random_dataset(), 20, precision="fp64", engine=engine, narrow_log_std=narrow)
        for engine in ("native", "torch")
    ]
    assert distance(*both) < 1e-10
    policy = both[0].learners[0].policy
    assert isinstance(policy, NormalPolicy)
    assert bool((policy.log_std == log_std).all())


def _double(run: fastifo.Run) -> fastifo.Run:
    for learner in run.learners:
        learner.double()
        assert learner.optimizer is not None
        for moments in (learner.optimizer.first, learner.optimizer.second):
            moments[:] = [moment.double() for moment in moments]
    return run


@pytest.mark.parametrize("name", NATIVE)
def test_a_run_changes_its_engine_at_a_checkpoint(name: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"precision": "fp64"} | STEADY.get(name, {})
    fields |= {"target_period": 7} if name == "vfo_bin" else {}
    uninterrupted = train(name, random_dataset(), 60, engine="torch", **fields)
    for first, second in (("torch", "native"), ("native", "torch")):
        folder = tmp_path / first
        train(name, random_dataset(), 33, engine=first, out=folder, **fields)
        changed = train(name, random_dataset(), 60, engine=second, out=folder, **fields)
        assert changed.engine == second
        assert distance(changed, uninterrupted) < 1e-12


def test_callbacks_get_the_weights_of_their_update() -> None:
    weights: list[Tensor] = []

    def record(run: Any, update: int, members: Any) -> None:
        weights.append(run.learners[0].policy.body.layers[0].weight.detach().clone())

    record.every = 10  # type: ignore[attr-defined]
    train("bc", random_dataset(), 30, callbacks=[record])
    for index, count in enumerate((10, 20, 30)):
        policy: Any = train("bc", random_dataset(), count).learners[0].policy
        assert torch.equal(weights[index], policy.body.layers[0].weight)


def test_the_same_episodes_may_be_expert_and_background() -> None:
    dataset = random_dataset()
    dataset = dataclasses.replace(dataset, expert=dataset.background)
    engines = ("native", "torch")
    runs = [train("vfo_bin", dataset, 5, precision="fp64", engine=engine) for engine in engines]
    assert distance(*runs) < 1e-12


def test_a_member_that_diverges_is_named_and_the_others_train_on() -> None:
    with pytest.warns(UserWarning, match="learning_rate=1e\\+30"):
        run = train("vfo_bin", random_dataset(), 40, learning_rate=[1e-3, 1e30])
    assert run.engine == "native"
    assert list(run.failed) == [1]
    assert run.policy(0).act(torch.zeros(3)).isfinite().all()


FEW_THREADS = """
import resource, sys
import torch
from engine.runs import train
from fastifo.engine import native_engine
from helpers import random_dataset

class FourThreads:
    def __init__(self, module):
        self.module = module
    def __getattr__(self, name):
        return getattr(self.module, name)
    def train(self, plan, first, count, burst, threads, *rest):
        self.module.train(plan, first, count, burst, 4, *rest)

torch.set_num_threads(1)
seeds = list(range(int(sys.argv[1])))
run = train("bc", random_dataset(), 3, engine="native", seeds=seeds)
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
original = native_engine._module
native_engine._module = lambda learner: FourThreads(original(learner))  # no room for their stacks
try:
    again = train("bc", random_dataset(), 3, engine="native", seeds=seeds)
except RuntimeError as error:
    print(error)
else:
    print(all(torch.equal(a, b) for a, b in zip(
        run.learners[0].parameters(), again.learners[0].parameters(), strict=True)))
"""


@pytest.mark.parametrize(("members", "expected"), [(4, "True"), (1, "refused to start as many")])
@pytest.mark.no_address_sanitizer
@pytest.mark.slow
def test_too_few_threads_raise_an_error_or_do_not_change_the_result(
    members: int, expected: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_THREADS, str(members)],
        capture_output=True, text=True, check=False,
        env=child_environment(OMP_NUM_THREADS="1"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, -1)),
    )  # fmt: skip
    assert expected in done.stdout, done.stderr
    assert done.returncode == 0
