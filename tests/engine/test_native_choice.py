"""Which engine trains a learner, and why."""

from typing import Any

import pytest

from engine.runs import NATIVE, train
from fastifo.algos.iql import IQL
from fastifo.algos.learner import Metrics
from fastifo.algos.rebrac import ReBRAC
from fastifo.algos.rewards.tge import TGEIQL, TGEReBRAC
from fastifo.data.sampler import Batch
from fastifo.nn.packed import MAX_DEPTH
from helpers import random_dataset


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"activation": "elu"}, "with relu, not elu"),
        ({"kernel_reading": "targets"}, "smooths logits, not targets"),
        ({"precision": "tf32"}, "does not train in tf32"),
        ({"fused": False}, "does not support fused=False"),
        ({"hidden_sizes": (4,) * MAX_DEPTH}, "at most 16 layers"),
    ],
)
def test_the_reason_is_named_where_native_cannot_train_and_auto_falls_back_to_torch(
    fields: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=reason):
        train("bc", random_dataset(), 5, engine="native", **fields)
    run = train("bc", random_dataset(), 5, **fields | {"progress": True})
    assert run.engine == "torch"
    assert reason in capsys.readouterr().err


def test_an_encoder_with_too_many_layers_is_refused_too() -> None:
    with pytest.raises(ValueError, match="at most 16 layers"):
        train(
            "pw_dice", random_dataset(), 5, engine="native",
            embedding_hidden_sizes=(4,) * MAX_DEPTH,
        )  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32x", "bf16"])
def test_methods_with_critics_of_actions_refuse_bfloat16_in_native(precision: str) -> None:
    for name in ("iql", "rebrac"):
        with pytest.raises(ValueError, match=f"native engine does not train in {precision}"):
            train(name, random_dataset(), 5, engine="native", precision=precision)


def test_auto_trains_rebrac_and_what_ends_in_it_natively() -> None:
    assert train("rebrac", random_dataset(), 2).engine == "native"
    assert train("seabo", random_dataset(), 2, backbone="rebrac").engine == "native"


def test_auto_chooses_torch_where_it_is_faster(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.BF16_KERNEL", "emulated")
    for precision, reason in (("fp64", "double precision"), ("fp32x", "no bfloat16 units")):
        run = train("bc", random_dataset(), 5, precision=precision, progress=True)
        assert run.engine == "torch"
        assert reason in capsys.readouterr().err
    assert train("bc", random_dataset(), 5, precision="bf16").engine == "native"


def test_a_helper_stage_that_falls_back_to_torch_prints_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = {"disc_activation": "tanh", "engine": "native", "progress": True}
    run = train("smodice", random_dataset(), 5, **fields)
    assert run.engine == "native"
    printed = capsys.readouterr().err
    assert "smodice: discriminator: training in torch, because the native engine needs" in printed


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="engine: expected auto, torch or native, found 'jax'"):
        train("bc", random_dataset(), 5, engine="jax")


def test_a_kernel_that_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.BF16_KERNEL", "quantum")
    with pytest.raises(ValueError, match=r"kernel: expected .*emulated here, found 'quantum'"):
        train("bc", random_dataset(), 5, engine="native", precision="bf16")
    assert train("bc", random_dataset(), 5, engine="native").engine == "native"


def test_a_subclass_inherits_the_native_loss_unless_it_writes_its_own_update() -> None:
    class Renamed(IQL):
        name = "renamed"

    class OtherUpdate(IQL):
        def update(self, batch: Batch) -> Metrics:
            return super().update(batch)

    assert IQL.native_loss is not None
    assert Renamed.native_loss is IQL.native_loss
    assert TGEIQL.native_loss is IQL.native_loss
    assert OtherUpdate.native_loss is None
    assert TGEReBRAC.native_loss is ReBRAC.native_loss


def test_these_methods_have_a_native_loss() -> None:
    assert set(NATIVE) >= {
        "awr", "bc", "bco", "dilo", "iql", "lobsdice", "oril", "pw_dice", "rebrac", "smodice",
        "sqil", "tailo", "vfo_bin", "vfo_disc",
    }  # fmt: skip
