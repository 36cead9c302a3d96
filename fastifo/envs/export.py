"""A policy as one file that runs without fastifo: an ONNX model, or a program of torch.export.

The file maps observations, and frames if the policy reads any, to actions within the environment's
bounds. It holds the scaling of observations, the encoders, the net and the policy head. What is
exported is the learner's own `act`, traced: a method with an `act` of its own is exported as it
acts.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastifo.algos.learner import Learner
from fastifo.envs.backends.quiet import quiet
from fastifo.envs.export_formats import Run, Traced, noise_width, to_onnx, to_pt2, trace
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.encoder import Encoder
from fastifo.nn.heads import DeterministicPolicy
from fastifo.utils.files import write_bytes

CHECK_ROWS = 2048  # observations that the file and the policy are compared on
IMAGE_ROWS = 128  # the same for a policy that reads frames, which take much more memory
SCALES = (0.3, 1.0, 3.0)  # of these observations, in units of the deviation
COARSE = 6  # random frames are COARSE x COARSE squares with noise: their features differ
LARGEST_ERROR = 1e-4  # of an action, in units of half its range
LARGEST_SHARE = 0.01  # of the rows in which a binned policy may choose another bin: close ties
RESERVED = ("obs", "uniform", "action")  # names of the file's other inputs and of its output

ActRows = Callable[[Tensor, Tensor | None, Mapping[str, Tensor] | None], Tensor]


@dataclass(frozen=True)
class Export:
    """An exported policy, and how it compares with `Policy.act` on random observations."""

    path: Path
    inputs: dict[str, int]  # name -> width of each float32 input: obs, and uniform for samples
    rows: int  # observations compared
    rows_differing: int  # rows whose action differs by more than rounding: other bins
    largest_difference: float  # between two actions, in the environment's units
    images: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Camera -> height, width and channels of its uint8 input."""

    def __str__(self) -> str:
        shapes = {name: (width,) for name, width in self.inputs.items()} | self.images
        inputs = ", ".join(
            f"{name} [B, {', '.join(map(str, shape))}]" for name, shape in shapes.items()
        )
        return (
            f"{self.path}: {inputs} -> action; {self.rows_differing} of {self.rows} random rows "
            f"differ from the policy's actions, by {self.largest_difference:.2g} at most"
        )


def export_policy(
    path: Path,
    learner: Learner,
    low: Tensor | None,
    high: Tensor | None,
    act_rows: ActRows,
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
    module = Traced(learner, low, high).eval()
    inputs = {"obs": learner.spec.obs_dim}
    if not deterministic:
        inputs["uniform"] = noise_width(learner)
    images = {
        name: (height, width, channels) for name, height, width, channels in learner.spec.images
    }
    metadata = {
        "format": "fastifo-policy",
        "version": 1,
        "deterministic": deterministic,
        "inputs": inputs,
        "images": images,
        "action_dim": learner.spec.action_dim,
        "action_low": None if low is None else low.tolist(),
        "action_high": None if high is None else high.tolist(),
        **facts,
    }
    text = json.dumps(metadata)
    values = _random_inputs(learner, inputs, images)
    with quiet():
        program = trace(path, module, {name: each[:3] for name, each in values.items()})
        content, run = (
            to_onnx(program, text, list(values))
            if path.suffix == ".onnx"
            else to_pt2(program, text, tuple(images))
        )
        compared = _compare(path, learner, module, run, act_rows, values)
    write_bytes(path, content)
    return Export(path, inputs, *compared, images)


def _check(learner: Learner, deterministic: bool) -> None:
    """Raises ValueError for a policy that cannot be exported."""
    if type(learner.encoder) is not Encoder:
        raise ValueError(
            f"export: expected fastifo's encoder of observations, found "
            f"{type(learner.encoder).__name__}, which cannot be exported"
        )
    for name, *_ in learner.spec.images:
        if name in RESERVED:
            raise ValueError(
                f"export: the camera {name!r} has the name of another input or output of the file "
                f"({', '.join(RESERVED)}); train with a camera of another name"
            )
    if not deterministic and isinstance(learner.policy, DeterministicPolicy):
        raise ValueError(
            f"export: {learner.name} has a deterministic policy, whose samples are its mode; "
            "export it with deterministic=True (--play mode)"
        )


def _random_inputs(
    learner: Learner, inputs: Mapping[str, int], images: Mapping[str, tuple[int, int, int]]
) -> dict[str, Tensor]:
    """Random rows of every input, in the order of the file."""
    generator = torch.Generator().manual_seed(0)
    rows, width = IMAGE_ROWS if images else CHECK_ROWS, inputs["obs"]
    mean, deviation = (
        t[:width].float().cpu() for t in (learner.encoder.mean, learner.encoder.deviation)
    )
    scale = torch.tensor(SCALES).repeat(rows)[:rows, None]
    values = {"obs": mean + scale * deviation * torch.randn(rows, width, generator=generator)}
    if "uniform" in inputs:
        values["uniform"] = torch.rand(rows, inputs["uniform"], generator=generator)
    for camera, (height, width, channels) in images.items():
        coarse = torch.rand(rows, channels, COARSE, COARSE, generator=generator)
        squares = nn.functional.interpolate(coarse, (height, width)).movedim(1, -1)
        noise = torch.rand(rows, height, width, channels, generator=generator)
        values[camera] = (200 * squares + 55 * noise).to(torch.uint8).contiguous()
    return values


def _compare(
    path: Path,
    learner: Learner,
    module: Traced,
    run: Run,
    act_rows: ActRows,
    values: Mapping[str, Tensor],
) -> tuple[int, int, float]:
    """Compares the file with the policy on these rows.

    Returns the number of rows, that of differing rows and the largest difference.
    Raises ValueError if the file acts differently.
    """
    noise = None
    if "uniform" in values:
        noise = nn.functional.pad(values["uniform"], (0, module.missing)).to(learner.dtype)
    frames = {name: values[name] for name, *_ in learner.spec.images}
    expected = act_rows(values["obs"], noise, frames)
    arrays = {name: value.numpy() for name, value in values.items()}
    found = torch.from_numpy(run(arrays))
    one = torch.from_numpy(run({name: array[:1] for name, array in arrays.items()}))
    half = torch.ones(found.shape[1])
    if module.bounds is not None:
        half = 0.5 * (module.bounds[1] - module.bounds[0])
    difference = (found - expected).abs()
    rows, differing = len(found), int(((difference / half) > LARGEST_ERROR).any(1).sum())
    allowed = LARGEST_SHARE * rows if isinstance(learner.policy, BinnedPolicy) else 0
    if differing > allowed or one.shape != (1, found.shape[1]):
        raise ValueError(
            f"{path}: the exported policy differs from this one in {differing} of {rows} "
            f"random rows, by up to {float(difference.max()):.3g}; nothing was written"
        )
    return rows, differing, float(difference.max())
