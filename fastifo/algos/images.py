"""What a method requires of data with images."""

from typing import Any

from fastifo.data.dataset import Dataset
from fastifo.data.frames import check_cameras


def check_images(
    method: str, dataset: Dataset, config: Any, *, reads_images: bool, needs_expert: bool
) -> None:
    """Raises ValueError if a method cannot learn from the dataset's frames.

    method: its name.  config: its fields.  reads_images, needs_expert: as the method says.
    """
    cameras = ", ".join(dataset.images)
    remedy = "use dataset.with_cameras(), which leaves them out"
    if not reads_images:
        raise ValueError(f"{method} does not support images; the dataset has {cameras}: {remedy}")
    if getattr(config, "absorbing_indicator", False):
        raise ValueError(
            f"absorbing_indicator: an absorbing state has no image; the dataset has {cameras}: "
            f"{remedy}"
        )
    if needs_expert and dataset.expert is not None:
        sizes = {camera: frames.size for camera, frames in dataset.expert.images.items()}
        check_cameras(dataset.cameras, sizes, "expert")
