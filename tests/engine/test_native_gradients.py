"""The native engine's gradients in each precision, compared with double precision."""

from typing import Any

import pytest

from engine.runs import NATIVE, STEADY, short, train
from fastifo import _C
from fastifo.algos import ALGORITHMS
from helpers import random_dataset


def gradient_errors(name: str, precision: str, engine: str = "native", **sizes: Any) -> list[float]:
    """Relative error of each layer's gradient against double precision.

    Read from the first moment, which holds a tenth of the gradient after a net's first step.
    """
    fields: dict[str, Any] = {"hidden_sizes": (70, 40), "batch_size": 50}
    fields |= short(name, 0) | STEADY.get(name, {}) | sizes
    updates = ALGORITHMS[name].period  # so that every net has made a step
    run = train(name, random_dataset(), updates, engine=engine, precision=precision, **fields)
    exact = train(name, random_dataset(), updates, engine="torch", precision="fp64", **fields)
    actual, expected = run.learners[-1].optimizer, exact.learners[-1].optimizer
    assert actual is not None
    assert expected is not None
    return [
        float((a.double() - b).norm() / b.norm())
        for a, b in zip(actual.first, expected.first, strict=True)
        if name not in STEADY or b[0].numel() > 1
    ]


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("kernel", getattr(_C, _C.isas[0]).bf16_kernels())
def test_gradients_are_as_exact_as_the_precision(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.BF16_KERNEL", kernel)
    assert max(gradient_errors(name, "fp32")) < 3e-6
    loss = ALGORITHMS[name].native_loss
    assert loss is not None
    if "bf16" not in loss.precisions:  # trains in single and double precision only
        return
    assert 1e-6 < max(gradient_errors(name, "fp32x")) < 3e-5
    # Where rounding switches a relu unit on or off, the error is its entire gradient; in torch too.
    native, in_torch = (gradient_errors(name, "bf16", engine) for engine in ("native", "torch"))
    assert 1e-3 < max(native) < 1.5 * max(in_torch)
    assert max(in_torch) < 0.15


@pytest.mark.parametrize("precision", ["bf16", "fp32x"])
def test_the_layer_of_several_dual_variables_never_multiplies_in_bfloat16(precision: str) -> None:
    fields: dict[str, Any] = {"hidden_sizes": (), "distance_scale": 0.0, "ratio_scale": 0.0}
    *_, weight, bias = gradient_errors("pw_dice", precision, **fields)
    assert weight < 1e-6  # as in fp32
    assert bias < 1e-5  # a sum in which most cancels


@pytest.mark.parametrize("isa", _C.isas)
def test_gradients_of_wide_layers_are_as_exact(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their products sum over more than one block."""
    monkeypatch.setattr("fastifo.engine.native_engine.ISA", isa)
    sizes: dict[str, Any] = {"hidden_sizes": (300, 200), "batch_size": 300, "num_bins": 101}
    assert max(gradient_errors("vfo_bin", "fp32", **sizes)) < 1e-5
    assert max(gradient_errors("vfo_bin", "fp32x", **sizes)) < 5e-5
    assert max(gradient_errors("vfo_bin", "bf16", **sizes)) < 0.15
