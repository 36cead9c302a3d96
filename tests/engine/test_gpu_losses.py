"""Batch losses are one source for host and device: each compiles for a GPU as it stands."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
NVCC = shutil.which(
    "nvcc", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
)
TEAM = """
using namespace fastifo;

struct OneThread {
  template <typename Body>
  __device__ void each(int64_t count, const Body& body) const {
    for (int64_t i = 0; i < count; ++i) body(i);
  }
  template <typename Term>
  __device__ double sum(int64_t count, const Term& term) const {
    double found = 0.0;
    for (int64_t i = 0; i < count; ++i) found += term(i);
    return found;
  }
  template <typename Term>
  __device__ double max(int64_t count, const Term& term) const {
    double found = term(0);
    for (int64_t i = 1; i < count; ++i) found = term(i) > found ? term(i) : found;
    return found;
  }
};

template <typename Method>
__global__ void judge(const Method method, Seen<float> seen, Judged<float> out) {
  method.judge(OneThread(), seen, out);
}

__global__ void judge_iql(const IQL<float> method, int64_t rows, const float* in, float* out,
                          double* metrics) {
  method.judge(OneThread(), rows, in, in, in, out, out, metrics);
  *metrics = method.judge_critic(OneThread(), rows, in, in, in, in, out);
}
"""


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
@pytest.mark.slow
def test_every_methods_loss_compiles_for_a_gpu(tmp_path: Path) -> None:
    headers = sorted((CSRC / "methods").glob("*.h"))
    taken = "struct (\\w+)[^{]*{\\n(?:(?!struct ).*\\n)*?.*kMetrics\\[\\]"
    names = [name for path in headers for name in re.findall(taken, path.read_text())]
    assert {"AWR", "DILO", "IQL", "SMODICE", "VfO"} <= set(names)
    source = tmp_path / "losses.cu"
    source.write_text(
        "".join(f'#include "methods/{path.name}"\n' for path in headers)
        + TEAM
        + "".join(
            f"template __global__ void judge({name}<float>, Seen<float>, Judged<float>);\n"
            for name in names
            if name != "IQL"
        )
    )
    assert NVCC is not None
    command = [NVCC, "-std=c++20", "-Werror", "all-warnings", "-arch=sm_90", f"-I{CSRC}", "-c"]
    subprocess.run([*command, str(source), "-o", str(tmp_path / "losses.o")], check=True)
