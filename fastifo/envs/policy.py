"""A trained policy that acts in an environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.algos.learner import Learner
from fastifo.data.streams import purpose, uniform
from fastifo.envs.export import Export, export_policy
from fastifo.nn.pixels import CameraSpec
from fastifo.utils.ambient import standard_torch
from fastifo.utils.arguments import as_flag
from fastifo.utils.folders import as_path


class Policy:
    """The policy of one member of a run; made by `Run.policy`.

    It acts in the precision of training, but in single precision after training in bfloat16.
    Sampled actions are a function of the member's seed and of how many times this object has
    sampled: a new `Policy` of the same member repeats the sequence.
    """

    def __init__(
        self,
        learner: Learner,
        member: int,
        low: Tensor | None,
        high: Tensor | None,
        *,
        label: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Copies one member's weights.

        learner: the population.
        member: index in the population.
        low, high: bounds of the environment's actions, [A]; None: [-1, 1].
        label: says which member it is, for `repr`; default: its seed.
        facts: about the run, as JSON values; `export` keeps them in its file.
        """
        self.label = label or f"seed={learner.seeds[member]}"
        self.facts = dict(facts or {})
        self.learner = learner.member(member, "fp32" if learner.precision == "bf16" else "")
        self.low = low
        self.high = high
        self.device = learner.encoder.mean.device
        self.seed = torch.tensor([learner.seeds[member]], dtype=torch.int64, device=self.device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=self.device)

    def __repr__(self) -> str:
        spec = self.learner.spec
        cameras = "".join(f" and {name}" for name, *_ in spec.images)
        return (
            f"Policy({type(self.learner).name}, {self.label}, {spec.obs_dim} observations{cameras} "
            f"-> {spec.action_dim} actions, on {self.device})"
        )

    @standard_torch()
    def act(
        self, obs: Any, deterministic: bool = True, *, images: Mapping[str, Any] | None = None
    ) -> Any:
        """Actions within the environment's bounds.

        obs: one observation [D] or a batch [B, D]; a torch tensor or anything array-like.
        deterministic: return the mode of the policy; False draws a sample.
        images: the current frame of each camera that the policy reads, uint8 [H, W, C], or
            [B, H, W, C] with a batch; cameras that it does not read are ignored.

        Returns float32 [A] or [B, A]: a tensor on the device of `obs` for a tensor, otherwise a
        NumPy array.
        Raises TypeError if `obs` is not numeric or a frame is not uint8; ValueError if `obs` has
        the wrong size or contains nan or infinity, or if a camera is missing or has the wrong
        size.
        """
        tensor = obs if isinstance(obs, Tensor) else torch.from_numpy(_numeric_array(obs))
        if tensor.layout is not torch.strided or tensor.is_meta or not tensor.is_floating_point():
            tensor = _dense(tensor)
        width = self.learner.spec.obs_dim
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != width:
            raise ValueError(
                f"obs: expected shape ({width},) or (B, {width}), found {tuple(tensor.shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError("obs: expected finite numbers, found nan or infinity")
        batch = tensor.reshape(-1, width)
        noise = None
        if not deterministic:
            noise = self.noise(purpose("act", "sample"), int(self.counter), len(batch))
            self.counter += 1
        frames = self._frames(images, tensor.ndim == 1, len(batch))
        action = self.act_rows(batch, noise, frames)
        action = action[0] if tensor.ndim == 1 else action
        return action if isinstance(obs, Tensor) else action.numpy()

    @standard_torch()
    def export(self, path: str | Path, deterministic: bool = True) -> Export:
        """Writes the policy to a file that runs without fastifo, and checks it against the policy.

        path: ends in .onnx, for ONNX runtimes, or in .pt2, for `torch.export.load`.
        deterministic: export the mode of the policy; False exports samples.

        The file maps `obs`, float32 [B, D], and the frames that the policy reads, uint8
        [B, H, W, C], to `action`, float32 [B, A], within the environment's bounds, for any B. Like
        `act`, it scales and encodes observations itself. In ONNX, each camera's input has the
        camera's name; a .pt2 program is called as program(obs, images={camera: frames}).
        Sampling needs a further input after `obs`, `uniform`, with numbers drawn from [0, 1):
        [B, A] for a binned policy without jitter, [B, 2A] for others. The file computes in float32,
        even if the policy acts in float64. Its metadata, JSON under the name policy.json, contain
        the environment and its settings, the algorithm and its settings, the action bounds, the
        number of updates, and fastifo's version and commit.

        Returns an `Export`; printing it shows in how many of 2048 random rows (128 with frames) the
        file's action differs from that of `act_rows`. Binned policies may differ in close ties.
        Raises ValueError for another suffix, for samples of a deterministic policy, if torch.export
        cannot trace the policy, or if the file would act differently; ImportError if ONNX's
        packages are missing (pip install 'fastifo[onnx]'); OSError naming the file.
        """
        return export_policy(
            as_path(path), self.learner, self.low, self.high, self.act_rows,
            deterministic=as_flag("deterministic", deterministic), facts=self.facts,
        )  # fmt: skip

    def to(self, device: torch.device) -> "Policy":
        """Moves the policy to a device, in place, and returns it."""
        self.learner.to_device(device)
        self.seed, self.counter = self.seed.to(device), self.counter.to(device)
        self.device = device
        return self

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """Uniform sampling noise of one step, [rows, 2A], a function of seed, stream and step."""
        width = 2 * self.learner.spec.action_dim
        counter = torch.tensor([step], dtype=torch.int64, device=self.device)
        numbers = uniform(self.seed, counter, stream, rows * width, self.learner.dtype)
        return numbers.view(rows, width)

    @property
    def cameras(self) -> tuple[CameraSpec, ...]:
        """Name, height, width and channels of each camera that the policy reads; often none."""
        return self.learner.spec.images

    def _frames(
        self, images: Mapping[str, Any] | None, single: bool, rows: int
    ) -> dict[str, Tensor]:
        """The frames that the policy reads, uint8 [rows, H, W, C], checked."""
        frames = {}
        for camera, *size in self.cameras:
            shape = (*size,) if single else (rows, *size)
            known = ", ".join(images or {}) or "none"
            if images is None or camera not in images:
                raise ValueError(
                    f"images: expected a frame of the camera {camera!r}, uint8 {list(shape)}, "
                    f"found {known}"
                )
            value = torch.as_tensor(images[camera])
            if value.dtype != torch.uint8:
                raise TypeError(f"images: {camera!r}: expected uint8, found {value.dtype}")
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"images: {camera!r}: expected {list(shape)}, found {list(value.shape)}"
                )
            frames[camera] = value.reshape(rows, *size)
        return frames

    def act_rows(
        self, obs: Tensor, noise: Tensor | None, images: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """`act` without checks: obs [B, D] to float32 actions [B, A] on the device of `obs`.

        noise: [B, 2A] from `noise`, which makes the actions a sample; None gives the mode.
        images: uint8 [B, H, W, C] of each camera that the policy reads.
        """
        member_noise = None if noise is None else noise[None]
        frames = {name: images[name].unsqueeze(0) for name, *_ in self.cameras} if images else {}
        further = {"images": frames} if frames else {}  # a method's own `act` may take none
        action = self.learner.act(obs[None].to(self.device), member_noise, **further)[0]
        action = action.float().to(obs.device)
        if self.low is None or self.high is None:
            return action
        low, high = self.low.to(action.device), self.high.to(action.device)
        return low + 0.5 * (action + 1.0) * (high - low)


def _dense(obs: Tensor) -> Tensor:
    """A tensor of integers as floats.  Raises TypeError for sparse, meta and complex tensors."""
    if obs.layout is not torch.strided or obs.is_meta or obs.is_complex():
        raise TypeError(
            f"obs: expected a dense tensor of numbers, found {obs.layout}, {obs.dtype} on "
            f"{obs.device}"
        )
    return obs.double()


def _numeric_array(obs: Any) -> NDArray[Any]:
    """Anything array-like as an array of a dtype that torch takes."""
    array = np.array(obs)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"obs: expected an array of numbers, found {type(obs).__name__}")
    small = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    kind = array.dtype.newbyteorder("=") if small else np.float64
    return array.astype(kind)
