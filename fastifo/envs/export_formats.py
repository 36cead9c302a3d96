"""Traces a policy, and writes the trace as an ONNX model or as a program of torch.export."""

import importlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastifo.algos.learner import Learner
from fastifo.nn.binned import BinnedPolicy

METADATA = "policy.json"  # name of the metadata's file in a .pt2, and of its entry in ONNX
ONNX_EXTRA = "pip install 'fastifo[onnx]'"

Values = Mapping[str, NDArray[Any]]  # arrays by input: obs, uniform, and the cameras' frames
Run = Callable[[Values], NDArray[np.float32]]


class Traced(nn.Module):
    """What is traced: observations [B, D], numbers for samples [B, W], frames, to actions [B, A].

    It is in float32 on the CPU, and calls plain torch only.
    """

    def __init__(self, learner: Learner, low: Tensor | None, high: Tensor | None) -> None:
        super().__init__()
        self.learner = _traceable(learner)
        self.bounds = None if low is None or high is None else (low.cpu(), high.cpu())
        self.missing = 2 * learner.spec.action_dim - noise_width(learner)

    def forward(
        self, obs: Tensor, uniform: Tensor | None = None, images: dict[str, Tensor] | None = None
    ) -> Tensor:
        if uniform is not None:  # numbers that this policy does not use
            uniform = nn.functional.pad(uniform, (0, self.missing))[None]
        frames = {name: each[None] for name, each in (images or {}).items()}
        further = {"images": frames} if frames else {}  # a method's own `act` may take none
        action = self.learner.act(obs[None], uniform, **further)[0]
        if self.bounds is None:
            return action
        low, high = self.bounds
        return low + 0.5 * (action + 1.0) * (high - low)


def noise_width(learner: Learner) -> int:
    """Uniform numbers that one sampled action needs: one or two for each dimension."""
    cfg = learner.cfg
    one = isinstance(learner.policy, BinnedPolicy) and not cfg.action_jitter
    return learner.spec.action_dim * (1 if one else 2)


def _traceable(learner: Learner) -> Learner:
    """A copy in float32 on the CPU that calls plain torch only."""
    single = learner.member(0).to_device(torch.device("cpu")).float().requires_grad_(False)
    single.dtype, single.precision = torch.float32, "fp32"
    for module in single.modules():
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


def arguments(values: Mapping[str, Any], cameras: tuple[str, ...]) -> dict[str, Any]:
    """The values of each input as keyword arguments of `Traced.forward`."""
    result = {name: value for name, value in values.items() if name not in cameras}
    return result | ({"images": {name: values[name] for name in cameras}} if cameras else {})


def trace(
    path: Path, module: Traced, example: Mapping[str, Tensor]
) -> torch.export.ExportedProgram:
    """The module as a graph for any number of rows.

    path: of the file, for messages.  example: a few rows of every input, in the order of the file.
    Raises ValueError if torch.export cannot trace it.
    """
    cameras = tuple(name for name, *_ in module.learner.spec.images)
    batch = torch.export.Dim("batch", min=1)
    shapes = arguments({name: {0: batch} for name in example}, cameras)
    named = arguments(example, cameras)
    images = {"images": named.pop("images")} if cameras else {}
    try:
        with torch.no_grad():
            program = torch.export.export(
                module, tuple(named.values()), images, dynamic_shapes=shapes
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


def to_pt2(
    program: torch.export.ExportedProgram, text: str, cameras: tuple[str, ...]
) -> tuple[bytes, Run]:
    """The content of a .pt2 file, and the file as a function."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: text})
    file.seek(0)
    loaded = torch.export.load(file).module()

    def run(values: Values) -> NDArray[np.float32]:
        named = arguments({name: torch.from_numpy(each) for name, each in values.items()}, cameras)
        images = {"images": named.pop("images")} if cameras else {}
        with torch.no_grad():
            result: Tensor = loaded(*named.values(), **images)
        return result.numpy()

    return file.getvalue(), run


def to_onnx(
    program: torch.export.ExportedProgram, text: str, inputs: list[str]
) -> tuple[bytes, Run]:
    """The content of an ONNX file, and the file as a function of onnxruntime.

    inputs: their names, in the program's order.  Raises ImportError naming the extra.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ImportError(f"export to ONNX needs the package {name}: {ONNX_EXTRA}") from None
    import onnxruntime

    result = torch.onnx.export(
        program, dynamo=True, input_names=inputs, output_names=["action"], verbose=False
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

    def run(values: Values) -> NDArray[np.float32]:
        action: NDArray[np.float32] = session.run(None, dict(values))[0]
        return action

    return content, run
