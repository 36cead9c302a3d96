"""Expert policies in `.npz` files: the included ones, and any other file in this layout.

Arrays of a file: `obs_mean`, `obs_std` [D], `obs_clip`, `n_layers`, `W0`, `b0`, ... (in x out),
`hidden_activation` (tanh | relu | lrelu), `output_activation` (none | tanh), `out_scale`,
`out_shift` [A].
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastifo.envs.experts.expert import normal_noise
from fastifo.utils.files import UNREADABLE, check_regular

HIDDEN: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "lrelu": lambda x: F.leaky_relu(x, 0.01),
}


class ExpertPolicy:
    """A policy from a file: its mean action, or with a `noise_scale` a sample around it."""

    def __init__(self, path: Path) -> None:
        """Reads a file.

        Raises FileNotFoundError if it is missing; ValueError if it is damaged or has another
        layout.
        """
        self.path = path
        self.noise_scale = 0.0  # of the action noise, in units of the deviation in training
        self.seed = torch.zeros(1, dtype=torch.int64, device="cpu")
        if path.exists():
            check_regular(path)
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            self.layers = [
                tuple(torch.from_numpy(arrays[f"{kind}{i}"]).float() for kind in "Wb")
                for i in range(int(arrays["n_layers"]))
            ]
            vectors = ("obs_mean", "obs_std", "obs_clip", "out_scale", "out_shift")
            self.vectors = {
                name: torch.as_tensor(arrays[name], device="cpu").float() for name in vectors
            }
            self.hidden = HIDDEN[str(arrays["hidden_activation"])]
            self.task = str(arrays.get("env", "")).partition("-")[0]
            self.squashes = str(arrays["output_activation"]) == "tanh"
            self.deviation: Tensor | None = None  # of the noise in training, [A], if it is known
            if "log_std" in arrays:
                self.deviation = torch.from_numpy(arrays["log_std"]).float().exp()
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such expert file") from None
        except UNREADABLE as error:
            raise ValueError(
                f"{path}: expected an expert's .npz file, found a truncated or unrelated one "
                f"({error!r})"
            ) from None

    def noise(self, stream: int, step: int, rows: int) -> Tensor | None:
        """Standard normal noise, [rows, A], a function of stream and step; None: deterministic."""
        return normal_noise(self, stream, step, rows)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, A] in [-1, 1] for observations [B, D].

        Observation columns beyond those the policy was trained on are ignored.
        noise: [B, A] from `noise`; None gives the mean action.
        """
        v = self.vectors
        x = (obs[:, : len(v["obs_mean"])].float() - v["obs_mean"]) / v["obs_std"]
        x = torch.minimum(torch.maximum(x, -v["obs_clip"]), v["obs_clip"])
        for index, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias
            if index < len(self.layers) - 1:
                x = self.hidden(x)
        x = x * v["out_scale"] + v["out_shift"]
        if noise is not None and self.deviation is not None:
            x = x + self.noise_scale * self.deviation * noise
        return (torch.tanh(x) if self.squashes else x).clamp(-1.0, 1.0)

    def identity(self) -> bytes:
        """The bytes of the file."""
        return self.path.read_bytes()

    def provenance(self) -> dict[str, Any]:
        """Name of the file, and the source that it states."""
        with np.load(self.path, allow_pickle=False) as file:
            source = str(file["source"]) if "source" in file.files else "unknown"
        return {"file": self.path.name, "source": source}
