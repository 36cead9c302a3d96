"""The frames of a batch: gathered as uint8, shifted at random, and appended to the observations."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.frames import Frames
from fastifo.data.streams import purpose
from fastifo.ops.draw import draw

GPU_SHARE = 0.8  # of a GPU's free memory that frames may take


class FrameSampler:
    """Appends the pixels of one source's frames to the observations of its batches.

    On the CPU frames stay where they are stored. On a GPU they are copied to its memory; where they
    do not fit, they stay on the host too, and each batch is copied.
    """

    def __init__(
        self,
        episodes: Episodes,
        cameras: Sequence[str],
        device: torch.device,
        *,
        seed: Tensor,
        stage: str,
        shift: int,
        steps: int,
        reuses: bool,
    ) -> None:
        """cameras: their order in a row.  seed: of each member, [P] int64 on the device.
        stage: as in `Sampler`.  shift: frames are moved by up to this many pixels in each
        direction; 0: not at all.  steps: number of successive observations of a row.
        reuses: whether a batch is written to the memory of the previous one of the same name.
        """
        self.seed, self.stage, self.shift = seed, stage, shift
        self.row = episodes.rows().to(device)
        self.step = torch.arange(steps, device=device).view(-1, 1, 1)
        self.frames: dict[str, Frames | Tensor] = {
            camera: episodes.images[camera] for camera in cameras
        }
        stored = [episodes.images[camera] for camera in cameras]
        self.reads_host = device.type == "cuda" and not fits_gpu(stored, device)
        if device.type == "cuda" and not self.reads_host:
            self.frames = {
                camera: _on_device(frames, device)
                for camera, frames in zip(cameras, stored, strict=True)
            }
        self.sizes = {camera: episodes.images[camera].size for camera in cameras}
        self.pixels = sum(map(math.prod, self.sizes.values()))
        self.gathered: dict[str, Tensor] = {}  # of each camera, overwritten by every batch
        self.staged: dict[str, Tensor] = {}  # the same on the host, where frames stay there
        self.reuses = reuses
        self.results: dict[str, Tensor] = {}  # by name of the batch

    def append(self, use: str, index: Tensor, obs: Tensor, counter: Tensor) -> Tensor:
        """Observations followed by the pixels of their frames, 0 to 255.

        use: of the batch, which the random shifts depend on.  index: transitions, [P, B] int64.
        obs: encoded, [steps, P, B, width].  counter: updates made, [1] int64.
        Returns [steps, P, B, width + pixels].
        """
        rows = self.row[index] + self.step  # [steps, P, B]
        width = obs.shape[-1]
        shape = (*obs.shape[:-1], width + self.pixels)
        result = self.results.get(use)
        if result is None or result.shape != shape or not self.reuses:
            result = self.results[use] = obs.new_empty(shape)
        result[..., :width] = obs
        for camera, frames in self.frames.items():
            gathered = self._gather(camera, frames, rows)
            if self.shift:
                gathered = shifted(gathered, self._offsets(f"{use}/{camera}", rows, counter))
            end = width + math.prod(self.sizes[camera])
            result[..., width:end] = gathered.view(*rows.shape, -1)
            width = end
        return result

    def _gather(self, camera: str, frames: Frames | Tensor, rows: Tensor) -> Tensor:
        """The frames of rows, uint8 [n, H, W, C], in memory that the next call uses again."""
        count = rows.numel()
        out = self._buffer(self.gathered, camera, count, rows.device)
        if isinstance(frames, Tensor):
            torch.index_select(frames.flatten(1), 0, rows.flatten(), out=out.flatten(1))
            return out
        if not self.reads_host:
            return frames.read(rows.flatten(), out)
        staged = self._buffer(self.staged, camera, count, torch.device("cpu"), pins=rows.is_cuda)
        return out.copy_(frames.read(rows.flatten().cpu(), staged))

    def _buffer(
        self,
        buffers: dict[str, Tensor],
        camera: str,
        count: int,
        device: torch.device,
        *,
        pins: bool = False,
    ) -> Tensor:
        """Room for `count` frames, from `buffers`.  pins: a GPU copies it faster."""
        buffer = buffers.get(camera)
        if buffer is None or len(buffer) < count:
            shape = (count, *self.sizes[camera])
            buffer = torch.empty(*shape, dtype=torch.uint8, device=device, pin_memory=pins)
            buffers[camera] = buffer
        return buffer[:count]

    def _offsets(self, use: str, rows: Tensor, counter: Tensor) -> Tensor:
        """Vertical and horizontal offset of each frame, [n, 2], each in [-shift, shift]."""
        steps, members, size = rows.shape
        span = 2 * self.shift + 1
        stream = purpose(self.stage, f"shift/{use}")
        numbers = draw(self.seed, counter, stream, span * span, steps * size)  # [P, steps B]
        numbers = numbers.view(members, steps, size).transpose(0, 1).reshape(-1)
        return torch.stack([numbers // span, numbers % span], 1) - self.shift


def shifted(frames: Tensor, offsets: Tensor) -> Tensor:
    """Frames moved by whole pixels; pixels at the border are repeated.

    frames: uint8 [n, H, W, C].  offsets: vertical and horizontal, [n, 2] int64: pixel (i, j) is
    taken from (i + offset 0, j + offset 1).
    Source: the random shift of Yarats et al. 2021, arXiv:2107.09645.
    """
    count, height, width, channels = frames.shape
    device = frames.device
    i = (torch.arange(height, device=device) + offsets[:, :1]).clamp_(0, height - 1)  # [n, H]
    j = (torch.arange(width, device=device) + offsets[:, 1:]).clamp_(0, width - 1)  # [n, W]
    position = (i.unsqueeze(2) * width + j.unsqueeze(1)).view(count, -1, 1)  # [n, H W, 1]
    flat = frames.view(count, -1, channels)
    return flat.gather(1, position.expand(-1, -1, channels)).view(frames.shape)


def fits_gpu(frames: Sequence[Frames], device: torch.device) -> bool:
    """Whether a GPU has room for the frames beside what it computes."""
    free, _ = torch.cuda.mem_get_info(device)
    return sum(each.size_bytes for each in frames) <= GPU_SHARE * free


def _on_device(frames: Frames, device: torch.device) -> Tensor:
    """A copy on a device, made in parts."""
    result = torch.empty(*frames.shape, dtype=torch.uint8, device=device)
    row = 0
    for part in frames.chunks():
        result[row : row + len(part)] = part.to(device)
        row += len(part)
    return result
