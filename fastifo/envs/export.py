"""A policy as one file that runs without fastifo: an ONNX model, or a program of torch.export.

The file maps observations to actions within the environment's bounds. It holds the scaling of
observations, the encoder, the net and the policy head. What is exported is the learner's own `act`,
traced: a method with an `act` of its own is exported as it acts.
"""

import importlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastifo.algos.learner import Learner
from fastifo.envs.backends.quiet import quiet
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.encoder import Encoder
from fastifo.nn.heads import DeterministicPolicy
from fastifo.nn.mlp import Linear
from fastifo.utils.files import write_bytes

METADATA = "policy.json"  # name of the metadata's file in a .pt2, and of its entry in ONNX
CHECK_ROWS = 2048  # observations that the file and the policy are compared on
SCALES = (0.3, 1.0, 3.0)  # of these observations, in units of the deviation
LARGEST_ERROR = 1e-4  # of an action, in units of half its range
LARGEST_SHARE = 0.01  # of the rows in which a binned policy may choose another bin: close ties
ONNX_EXTRA = "pip install 'fastifo[onnx]'"

Run = Callable[[Mapping[str, NDArray[np.float32]]], NDArray[np.float32]]


@dataclass(frozen=True)
class Export:
    """An exported policy, and how it compares with `Policy.act` on random observations."""

    path: Path
    inputs: dict[str, int]  # name -> width of each input: obs, and uniform for samples
    rows: int  # observations compared
    rows_differing: int  # rows whose action differs by more than rounding: other bins
    largest_difference: float  # between two actions, in the environment's units

    def __str__(self) -> str:
        inputs = ", ".join(f"{name} [B, {width}]" for name, width in self.inputs.items())
        return (
            f"{self.path}: {inputs} -> action; {self.rows_differing} of {self.rows} random rows "
            f"differ from the policy's actions, by {self.largest_difference:.2g} at most"
        )


class _Traced(nn.Module):
    """What is traced: observations [B, D], and numbers [B, W] for samples, to actions [B, A]."""

    def __init__(self, learner: Learner, low: Tensor | None, high: Tensor | None) -> None:
        super().__init__()
        self.learner = _traceable(learner)
        self.bounds = None if low is None or high is None else (low.cpu(), high.cpu())
        self.missing = 2 * learner.spec.action_dim - noise_width(learner)

    def forward(self, obs: Tensor, uniform: Tensor | None = None) -> Tensor:
        if uniform is not None:  # numbers that this policy does not use
            uniform = nn.functional.pad(uniform, (0, self.missing))[None]
        action = self.learner.act(obs[None], uniform)[0]
        if self.bounds is None:
            return action
        low, high = self.bounds
        return low + 0.5 * (action + 1.0) * (high - low)


def noise_width(learner: Learner) -> int:
    """Uniform numbers that one sampled action needs: one or two for each dimension."""
    cfg = learner.cfg
    one = isinstance(learner.policy, BinnedPolicy) and not cfg.action_jitter
    return learner.spec.action_dim * (1 if one else 2)


def export_policy(
    path: Path,
    learner: Learner,
    low: Tensor | None,
    high: Tensor | None,
    act_rows: Callable[[Tensor, Tensor | None], Tensor],
    *,
    deterministic: bool,
    facts: Mapping[str, Any],
) -> Export:
    """Writes a policy to a file, after it has been compared with the policy's actions.

    path: its suffix, .onnx or .pt2, is the format.
    learner: the policy's, of one member.  low, high: as in `Policy`.
    act_rows: `Policy.act_rows`, the judge.
    facts: to keep in the file as metadata, beside the sizes.
    Raises ValueError for another suffix, a policy that cannot be exported, and a file that would
    act differently; ImportError naming the extra; OSError naming the file.
    """
    if path.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"{path}: expected a name that ends in .onnx or .pt2")
    _check(learner, deterministic)
    module = _Traced(learner, low, high).eval()
    inputs = {"obs": learner.spec.obs_dim}
    if not deterministic:
        inputs["uniform"] = noise_width(learner)
    metadata = {
        "format": "fastifo-policy",
        "version": 1,
        "deterministic": deterministic,
        "inputs": inputs,
        "action_dim": learner.spec.action_dim,
        "action_low": None if low is None else low.tolist(),
        "action_high": None if high is None else high.tolist(),
        **facts,
    }
    text = json.dumps(metadata)
    with quiet():
        program = _trace(path, module, inputs)
        content, run = (_onnx if path.suffix == ".onnx" else _pt2)(program, text, inputs)
        result = _compare(path, learner, module, run, act_rows, inputs)
    write_bytes(path, content)
    return result


def _check(learner: Learner, deterministic: bool) -> None:
    """Raises ValueError for a policy that cannot be exported."""
    # The seam for other observations: their encoder, and the inputs of `export_policy`.
    if learner.spec.images:
        cameras = ", ".join(name for name, *_ in learner.spec.images)
        raise ValueError(
            f"export: expected a policy of observations that are vectors, found one that reads "
            f"the frames of {cameras}; policies that read images cannot be exported yet"
        )
    if type(learner.encoder) is not Encoder:
        raise ValueError(
            f"export: expected a policy of observations that are vectors, found the encoder "
            f"{type(learner.encoder).__name__}; policies that read images cannot be exported yet"
        )
    if not deterministic and isinstance(learner.policy, DeterministicPolicy):
        raise ValueError(
            f"export: {learner.name} has a deterministic policy, whose samples are its mode; "
            "export it with deterministic=True (--play mode)"
        )


def _traceable(learner: Learner) -> Learner:
    """A copy in float32 on the CPU that calls plain torch only."""
    single = learner.member(0).to_device(torch.device("cpu")).float().requires_grad_(False)
    single.dtype, single.precision = torch.float32, "fp32"
    for module in single.modules():
        if isinstance(module, Linear):
            module.bf16 = False
        if isinstance(module, BinnedPolicy):
            module.ops = _plain_ops(module)
    return single


def _plain_ops(head: BinnedPolicy) -> SimpleNamespace:
    """`binned_mode` and `binned_sample` in operators that every runtime has."""
    kernel = head.kernel.transpose(1, 2) if head.reading == "logits" else None

    def smooth(logits: Tensor) -> Tensor:
        if kernel is None:
            return logits
        return torch.bmm(logits.flatten(1, 2), kernel).view_as(logits)

    def mode(logits: Tensor, taps: Tensor, norm: Tensor) -> Tensor:
        return smooth(logits).argmax(-1)

    def sample(logits: Tensor, uniform: Tensor, taps: Tensor, norm: Tensor) -> Tensor:
        cumulative = smooth(logits).softmax(-1).cumsum(-1)
        passed = cumulative <= uniform.unsqueeze(-1) * cumulative[..., -1:]
        return passed.sum(-1).clamp(max=logits.shape[-1] - 1)

    return SimpleNamespace(binned_mode=mode, binned_sample=sample)


def _trace(path: Path, module: _Traced, inputs: Mapping[str, int]) -> torch.export.ExportedProgram:
    """The module as a graph for any number of rows."""
    example = tuple(torch.rand(3, width) for width in inputs.values())
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(
                module, example, dynamic_shapes={name: {0: batch} for name in inputs}
            )
    except Exception as error:  # torch.export has many kinds of them
        raise ValueError(
            f"{path}: torch.export cannot trace the `act` of {module.learner.name}: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    for node in program.graph.nodes:  # where the code lies on this machine
        for name in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(name, None)
    return program


def _pt2(
    program: torch.export.ExportedProgram, text: str, inputs: Mapping[str, int]
) -> tuple[bytes, Run]:
    """The content of a .pt2 file, and the file as a function."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: text})
    file.seek(0)
    loaded = torch.export.load(file).module()

    def run(values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        with torch.no_grad():
            result: Tensor = loaded(*(torch.from_numpy(values[name]) for name in inputs))
        return result.numpy()

    return file.getvalue(), run


def _onnx(
    program: torch.export.ExportedProgram, text: str, inputs: Mapping[str, int]
) -> tuple[bytes, Run]:
    """The content of an ONNX file, and the file as a function of onnxruntime."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ImportError(f"export to ONNX needs the package {name}: {ONNX_EXTRA}") from None
    import onnxruntime

    result = torch.onnx.export(
        program, dynamo=True, input_names=list(inputs), output_names=["action"], verbose=False
    )
    assert result is not None
    proto: Any = result.model_proto
    for item in (
        *proto.graph.node,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.value_info,
    ):
        del item.metadata_props[:]
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA, value=text)
    content = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        action: NDArray[np.float32] = session.run(None, dict(values))[0]
        return action

    return content, run


def _compare(
    path: Path,
    learner: Learner,
    module: _Traced,
    run: Run,
    act_rows: Callable[[Tensor, Tensor | None], Tensor],
    inputs: Mapping[str, int],
) -> Export:
    """Compares the file with the policy.  Raises ValueError if it acts differently."""
    generator = torch.Generator().manual_seed(0)
    width = inputs["obs"]
    mean, deviation = (
        t[:width].float().cpu() for t in (learner.encoder.mean, learner.encoder.deviation)
    )
    scale = torch.tensor(SCALES).repeat(CHECK_ROWS)[:CHECK_ROWS, None]
    obs = mean + scale * deviation * torch.randn(CHECK_ROWS, width, generator=generator)
    values, noise = {"obs": obs}, None
    if "uniform" in inputs:
        values["uniform"] = torch.rand(CHECK_ROWS, inputs["uniform"], generator=generator)
        noise = nn.functional.pad(values["uniform"], (0, module.missing)).to(learner.dtype)
    expected = act_rows(obs, noise)
    arrays = {name: value.numpy() for name, value in values.items()}
    found = torch.from_numpy(run(arrays))
    one = torch.from_numpy(run({name: array[:1] for name, array in arrays.items()}))
    half = torch.ones(found.shape[1])
    if module.bounds is not None:
        half = 0.5 * (module.bounds[1] - module.bounds[0])
    difference = (found - expected).abs()
    differing = int(((difference / half) > LARGEST_ERROR).any(1).sum())
    allowed = LARGEST_SHARE * CHECK_ROWS if isinstance(learner.policy, BinnedPolicy) else 0
    bf16 = learner.precision == "bf16"  # the file computes in float32, which is not a fault
    if (differing > allowed and not bf16) or one.shape != (1, found.shape[1]):
        raise ValueError(
            f"{path}: the exported policy differs from this one in {differing} of {CHECK_ROWS} "
            f"random rows, by up to {float(difference.max()):.3g}; nothing was written"
        )
    return Export(path, dict(inputs), CHECK_ROWS, differing, float(difference.max()))
