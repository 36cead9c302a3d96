"""Every loss of the native engine gives a block of threads what it gives a CPU thread."""

import pytest

from cuda_on_cpu.kernels import ORDERS, Kernels
from engine.test_losses_agree import NAMES

pytestmark = pytest.mark.slow  # compiles all kernels, in 15 seconds of a core


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_block_and_a_cpu_thread_agree_in_both_precisions(
    name: str, order: str, kernels: Kernels
) -> None:
    kernels.use_order(order)
    for in_double in (0, 1):
        kernels.call("compare_loss", name.encode(), in_double)


def test_an_unknown_loss_is_refused(kernels: Kernels) -> None:
    with pytest.raises(ValueError, match="losses: no gail"):
        kernels.call("compare_loss", b"gail", 0)
