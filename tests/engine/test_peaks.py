"""The compiled loops that measure the machine's peaks (csrc/engine/peaks.h)."""

import math

import pytest

from fastifo import _C


@pytest.mark.parametrize("isa", _C.isas)
def test_every_unit_of_the_machine_and_adam_have_a_rate(isa: str) -> None:
    compiled = getattr(_C, isa)
    units = [name for name in compiled.bf16_kernels() if name != "emulated"]
    for work in ("fma", *units, "adam"):
        rate = compiled.peak_rate(work, 1000, 2, 0.001)
        assert math.isfinite(rate)
        assert rate > 0.0


@pytest.mark.parametrize("work", ["dot", "emulated"])
def test_work_that_the_machine_lacks_is_refused(work: str) -> None:
    with pytest.raises(ValueError, match=f"expected fma, adam or a bf16 unit.*found {work}"):
        getattr(_C, _C.isas[0]).peak_rate(work, 1000, 1, 0.001)
