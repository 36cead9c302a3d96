"""The native engine against the learners that define what it computes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fastifo
from engine.runs import NATIVE, assert_equal_bits, short, train
from fastifo import _C
from fastifo.engine.native import MAX_DEPTH, NativeEngine
from fastifo.heads import NormalPolicy
from fastifo.learner import Learner, tensors
from helpers import random_dataset

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NATIVE),
    ("bc", {"hidden_sizes": ()}),
    ("bc", {"hidden_sizes": (7,), "batch_size": 1, "num_bins": 2}),
    ("bc", {"hidden_sizes": (33, 16, 5), "batch_size": 33, "encoder_scales": ()}),
    ("bc", {"kernel_reading": "none", "weight_decay": 0.1}),
    ("bc", {"standardize_obs": True, "weight_decay": 0.1, "decoupled_weight_decay": False}),
    ("awr", {"target_period": 3, "batch_size": 17, "max_weight": 1.5}),
    ("awr", {"advantage_bootstrap": "online", "advantage_absorbing": False, "target_period": 7}),
    ("awr", {"absorbing": False, "kernel_width": [0.02, 0.5]}),
    ("vfo_bin", {"target_period": 5, "alpha": [0.0, 0.3, 1.0], "batch_size": 300}),
    ("vfo_bin", {"batch_mode": "bernoulli", "alpha": 0.7, "batch_size": 20}),
    ("vfo_bin", {"policy_batch": "separate", "target_period": 2}),
    ("vfo_bin", {"policy_batch": "separate", "batch_mode": "bernoulli", "batch_size": 19}),
    ("vfo_bin", {"advantage_bootstrap": "online", "temperature": [0.1, 1.0], "target_period": 4}),
    ("vfo_disc", {"disc_loss": "pu", "pu_prior": [0.2, 0.8], "disc_reward_at": "current"}),
    ("vfo_disc", {"policy_batch": "separate", "seeds": [3, 1], "disc_learning_rate": 1e-2}),
    ("bco", {"label": "sample", "batch_size": 34, "inverse_updates": 50}),
    ("bco", {"clones": "expert", "inverse_updates": 50}),
    ("sqil", {"policy_alpha": [0.2, 1.0], "advantage_bootstrap": "online", "batch_size": 17}),
    ("smodice", {"divergence": "chi2", "absorbing": True, "weight_decay": 0.1}),
    ("smodice", {"normalizes": False, "max_weight": 2.0, "logit_clamp": [0.1, 10.0]}),
    ("smodice", {"divergence": "chi2", "normalizes": False, "value_weight_decay": 0.1}),
    ("dilo", {"beta": [0.3, 0.9], "inverse_temperature": 1.0, "policy_learning_rate": 1e-2}),
    ("dilo", {"residual_share": 0.4, "max_weight": 1.001, "batch_size": 40}),
    ("oril", {"disc_loss": "pu", "target_period": 7}),
    ("iql", {"expectile": [0.5, 0.9], "batch_size": 33, "polyak": 0.3, "weight_decay": 0.1}),
    ("iql", {"policy_head": "binned", "inverse_temperature": [0.0, 10.0], "batch_size": 17}),
    ("iql", {"policy_decay_updates": 150, "absorbing": True, "max_weight": 1.2}),
    ("iql", {"encoder_scales": (0.1, 1.0), "standardize_obs": False, "batch_size": 300}),
    ("seabo", {"reward_scaling": "none"}),
    ("tge", {"diffusion_updates": 3}),
]
# Without terminals in a batch no constant added to SMODICE's value changes its loss by KL: the last
# bias has no gradient but rounding, which Adam steps by. By chi2, and in DILO, it has little.
STEADY: dict[str, dict[str, Any]] = {
    "smodice": {"divergence": "chi2"},
    "dilo": {"residual_share": 0.5},
}


def state(run: fastifo.Run) -> dict[str, Tensor]:
    return {f"{i}.{k}": v for i, x in enumerate(run.learners) for k, v in tensors(x).items()}


def distance(a: fastifo.Run, b: fastifo.Run) -> float:
    """The largest relative distance of any net's parameters, targets or moments."""
    mine, other = state(a), state(b)
    assert mine.keys() == other.keys()
    return max(
        float((value - other[name]).norm() / other[name].norm().clamp(min=1e-12))
        for name, value in mine.items()
        if value.is_floating_point() and name.split(".")[1] != "encoder"
    )


def metrics(folder: Path) -> list[dict[str, Any]]:
    return fastifo.engine.log.read_metrics(folder / "metrics.jsonl")


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=str)
def test_200_updates_in_double_equal_the_learner(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    both = [
        train(
            name, random_dataset(), 200, precision="fp64", engine=engine, out=tmp_path / engine,
            **fields,
        )
        for engine in ("native", "torch")
    ]  # fmt: skip
    assert both[0].engine == "native"
    assert both[1].engine == "torch"
    assert distance(*both) < 1e-10  # sums in another order, 200 times
    for mine, other in zip(*(metrics(tmp_path / e) for e in ("native", "torch")), strict=True):
        assert mine.keys() == other.keys()
        for key, value in other.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=1e-9, abs=1e-10)
            assert mine[key] == near, key


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("name", NATIVE)
def test_single_precision_equals_the_learner(
    name: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_C, "isas", (isa,))
    fields: dict[str, Any] = {"hidden_sizes": (70, 40), "batch_size": 50, "log_every": 200}
    fields |= STEADY.get(name, {})
    native = train(name, random_dataset(), 200, engine="native", **fields)
    same = train(name, random_dataset(), 200, engine="torch", **fields)
    exact = train(name, random_dataset(), 200, engine="torch", precision="fp64", **fields)
    # Adam divides by gradients that are nearly 0, so rounding grows: a measured bound, and no
    # further from the truth than the learner itself is in single precision.
    assert distance(native, same) < 1e-4
    assert distance(_double(native), exact) < 3 * distance(_double(same), exact) + 1e-6


@pytest.mark.parametrize("log_std", [-20.5, 2.5])
def test_a_deviation_beyond_its_limits_stays_as_in_the_learner(
    log_std: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = NormalPolicy.__init__

    def extreme(self: NormalPolicy, body: Any) -> None:
        original(self, body)
        torch.nn.init.constant_(self.log_std, log_std)

    monkeypatch.setattr(NormalPolicy, "__init__", extreme)
    both = [
        train("iql", random_dataset(), 20, precision="fp64", engine=engine)
        for engine in ("native", "torch")
    ]
    assert distance(*both) < 1e-10
    policy = both[0].learners[0].policy
    assert isinstance(policy, NormalPolicy)
    assert bool((policy.log_std == log_std).all())


def gradient_errors(name: str, precision: str, engine: str = "native") -> list[float]:
    """Of each layer, relative, against double precision: a tenth is in the first moment."""
    fields: dict[str, Any] = {"hidden_sizes": (70, 40), "batch_size": 50}
    fields |= short(name, 0) | STEADY.get(name, {})
    run = train(name, random_dataset(), 1, engine=engine, precision=precision, **fields)
    exact = train(name, random_dataset(), 1, engine="torch", precision="fp64", **fields)
    mine, other = run.learners[-1].optimizer, exact.learners[-1].optimizer
    assert mine is not None
    assert other is not None
    return [
        float((a.double() - b).norm() / b.norm())
        for a, b in zip(mine.first, other.first, strict=True)
        if name not in STEADY or b[0].numel() > 1
    ]


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("kernel", _C.plain.half_kernels())
def test_gradients_are_as_exact_as_the_precision_says(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native.HALF_KERNEL", kernel)
    assert max(gradient_errors(name, "fp32")) < 3e-6
    if name == "iql":  # in single precision only
        return
    assert 1e-6 < max(gradient_errors(name, "fp32x")) < 3e-5
    # Where rounding turns a unit on or off, its whole gradient is the error: in torch as here.
    ours, torchs = (gradient_errors(name, "bf16", engine) for engine in ("native", "torch"))
    assert 1e-3 < max(ours) < 1.5 * max(torchs)
    assert max(torchs) < 0.15


@pytest.mark.parametrize("precision", ["fp32x", "bf16"])
@pytest.mark.parametrize("kernel", getattr(_C, _C.isas[0]).half_kernels())
def test_in_few_bits_a_member_does_not_feel_its_population_either(
    precision: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native.HALF_KERNEL", kernel)
    before = torch.get_num_threads()
    fields: dict[str, Any] = {
        "precision": precision, "target_period": 9, "batch_size": 72, "hidden_sizes": (40, 70)
    }  # fmt: skip
    try:
        torch.set_num_threads(1)
        alone = state(train("vfo_bin", random_dataset(), 30, seeds=5, **fields))
        for threads, seeds in ((2, [5]), (5, [5]), (1, [1, 5, 2]), (3, [5, 1, 2, 3, 4])):
            torch.set_num_threads(threads)
            found = state(train("vfo_bin", random_dataset(), 30, seeds=seeds, **fields))
            for key, value in alone.items():
                if ".encoder" not in key:
                    assert torch.equal(found[key][seeds.index(5)], value[0]), (threads, key)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["fp32x", "bf16"])
def test_packed_weights_are_made_again_when_a_run_resumes(precision: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"precision": precision, "target_period": 7}
    whole = train("vfo_bin", random_dataset(), 40, **fields)
    train("vfo_bin", random_dataset(), 17, out=tmp_path / "run", **fields)
    assert_equal_bits(train("vfo_bin", random_dataset(), 40, out=tmp_path / "run", **fields), whole)


def _double(run: fastifo.Run) -> fastifo.Run:
    for learner in run.learners:
        learner.double()
        assert learner.optimizer is not None
        for moments in (learner.optimizer.first, learner.optimizer.second):
            moments[:] = [moment.double() for moment in moments]
    return run


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("isa", _C.isas)
def test_a_member_does_not_feel_its_population_place_or_threads(
    name: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_C, "isas", (isa,))
    before = torch.get_num_threads()
    fields: dict[str, Any] = {"batch_size": 40, "hidden_sizes": (24, 24)}
    try:
        torch.set_num_threads(1)
        alone = state(train(name, random_dataset(), 30, seeds=5, **fields))
        for threads, members in ((2, 1), (1, 8), (3, 8), (2, 64), (5, 2)):
            torch.set_num_threads(threads)
            seeds = [5 if i == members // 2 else 100 + i for i in range(members)]
            found = state(train(name, random_dataset(), 30, seeds=seeds, **fields))
            for key, value in alone.items():
                if ".encoder" not in key:
                    assert torch.equal(found[key][members // 2], value[0]), (threads, members, key)
    finally:
        torch.set_num_threads(before)


def test_the_length_of_a_call_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for seconds in (0.0, 1e-3, 1e3):  # one update, a few, all until the next log
        monkeypatch.setattr("fastifo.engine.native.CALL_S", seconds)
        runs.append(train("vfo_bin", random_dataset(), 60, seeds=[1, 2, 3], log_every=25))
    assert_equal_bits(runs[0], runs[1])
    assert_equal_bits(runs[0], runs[2])


def test_a_run_changes_its_engine_at_a_checkpoint(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"precision": "fp64", "target_period": 7}
    whole = train("vfo_bin", random_dataset(), 60, engine="torch", **fields)
    for first, second in (("torch", "native"), ("native", "torch")):
        folder = tmp_path / first
        train("vfo_bin", random_dataset(), 33, engine=first, out=folder, **fields)
        changed = train("vfo_bin", random_dataset(), 60, engine=second, out=folder, **fields)
        assert changed.engine == second
        assert distance(changed, whole) < 1e-12


def test_callbacks_see_the_weights_of_their_update() -> None:
    seen: list[Tensor] = []

    def look(run: fastifo.Run, update: int, members: Any) -> None:
        seen.append(run.learners[0].policy.body.layers[0].weight.detach().clone())

    look.every = 10  # type: ignore[attr-defined]
    train("bc", random_dataset(), 30, callbacks=[look])
    for place, count in enumerate((10, 20, 30)):
        run = train("bc", random_dataset(), count)
        assert torch.equal(seen[place], run.learners[0].policy.body.layers[0].weight)


def test_a_member_that_diverges_is_named_and_the_others_go_on() -> None:
    with pytest.warns(UserWarning, match="learning_rate=1e\\+30"):
        run = train("vfo_bin", random_dataset(), 40, learning_rate=[1e-3, 1e30])
    assert run.engine == "native"
    assert list(run.failed) == [1]
    assert run.policy(0).act(torch.zeros(3)).isfinite().all()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"activation": "elu"}, "relu, not elu"),
        ({"kernel_reading": "targets"}, "smooths logits, not targets"),
        ({"precision": "tf32"}, "does not train in tf32"),
        ({"fused": False}, "references"),
        ({"hidden_sizes": (4,) * MAX_DEPTH}, "at most 16 layers"),
    ],
)
def test_what_native_cannot_train_is_named_and_left_to_torch(
    fields: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=reason):
        train("bc", random_dataset(), 5, engine="native", **fields)
    run = train("bc", random_dataset(), 5, **fields | {"progress": True})
    assert run.engine == "torch"
    assert reason in capsys.readouterr().err


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="engine: expected auto, torch or native, found 'jax'"):
        train("bc", random_dataset(), 5, engine="jax")


def engine_of(learner: Learner) -> NativeEngine:
    engine = NativeEngine(
        learner, random_dataset(), type(learner).batch_needs(learner.cfg), "train"
    )
    engine.load()
    return engine


@pytest.mark.parametrize("name", NATIVE)
def test_lanes_of_one_member_add_no_number_in_another_order(name: str) -> None:
    fields: dict[str, Any] = {"batch_size": 72, "hidden_sizes": (40, 24, 70)}
    run = train(name, random_dataset(), 1, seeds=3, **fields)
    before = torch.get_num_threads()
    for learner in run.learners:
        found = []
        for threads in (1, 2, 3, 6):
            own = copy.deepcopy(learner)
            engine = engine_of(own)
            try:
                torch.set_num_threads(threads)
                for _ in range(4):
                    engine.advance(1)
                    own.num_updates += 1
            finally:
                torch.set_num_threads(before)
            engine.store()
            found.append(dict(tensors(own)) | {"metrics": engine.totals})
        for other in found[1:]:
            for key, value in found[0].items():
                assert torch.equal(other[key], value), key


def test_the_parts_of_an_update_are_timed_for_each_member_and_lane() -> None:
    learner = train("vfo_bin", random_dataset(), 1, seeds=[1, 2]).learners[0]
    before = torch.get_num_threads()
    for threads in (1, 4):
        engine = engine_of(learner)
        try:
            torch.set_num_threads(threads)
            engine.advance(1)
        finally:
            torch.set_num_threads(before)
        for member in engine.seconds.tolist():
            spent = [dict(zip(_C.parts, lane, strict=True)) for lane in member]
            assert spent[0]["scalar"] > 0
            assert spent[threads == 4]["policy"] > 0
            assert (spent[1]["policy"] > 0) == (threads == 4)
