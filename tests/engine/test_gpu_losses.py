"""The batch losses are one source for the CPU and the GPU: each compiles for a CUDA block."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
NVCC = shutil.which(
    "nvcc", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
)
SOURCE = """
#include "losses/block_team.cuh"
#include "losses/list.h"

using namespace fastifo;

template <int kThreads, typename Loss, typename Real>
__global__ void loss_kernel(const Loss loss, BatchView<Real> batch, LossOutputs<Real> out) {
  double metrics[16] = {};
  const BlockTeam<kThreads> team;
  loss.loss_and_weights(team, batch, {out.gradient, out.next_gradient, out.weight, metrics});
  for (int i = 0; team.leads() && i < 16; ++i) out.metrics[i] = metrics[i];
}

template <typename Real>
__global__ void iql_kernel(const IQL<Real> loss, int64_t rows, const Real* in, Real* out,
                           double* metrics) {
  double values[16] = {};
  const BlockTeam<128> team;
  loss.loss_and_weights(team, rows, in, in, in, out, out, values);
  values[IQL<Real>::kCriticLoss] = loss.critic_loss(team, rows, in, in, in, in, out);
  for (int i = 0; team.leads() && i < 16; ++i) metrics[i] = values[i];
}

template <typename Real, typename Loss>
void compile_loss() {
  if constexpr (requires { Loss::kHasCritics; }) {
    (void)&iql_kernel<Real>;
  } else {
    (void)&loss_kernel<32, Loss, Real>;
    (void)&loss_kernel<256, Loss, Real>;
  }
}

template <typename Real, typename... Types>
void compile_all(TypeList<Types...>) {
  (compile_loss<Real, Types>(), ...);
}

int main() {
  compile_all<float>(Losses<float>());
  compile_all<double>(Losses<double>());
}
"""


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_every_loss_of_the_list_compiles_for_a_block_of_any_size(tmp_path: Path) -> None:
    source = tmp_path / "losses.cu"
    source.write_text(SOURCE)
    assert NVCC is not None
    command = [NVCC, "-std=c++20", "-Werror", "all-warnings", "-arch=sm_90", f"-I{CSRC}", "-c"]
    subprocess.run([*command, str(source), "-o", str(tmp_path / "losses.o")], check=True)
    kernels = subprocess.run(
        ["nm", "-C", str(tmp_path / "losses.o")], check=True, capture_output=True, text=True
    ).stdout
    names = "AWR DILO Discriminator IQL LobsDICE PWDICE SMODICE SQIL VfO"
    for name in names.split():
        for number in ("float", "double"):
            assert f"fastifo::{name}<{number}>" in kernels, (name, number)
