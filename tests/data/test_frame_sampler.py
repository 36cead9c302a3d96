"""The frames of a batch are those of the episode and step that it says."""

from typing import Any

import pytest
import torch
from torch import Tensor

import fastifo
from fastifo.data import frame_sampler
from fastifo.data import frames as frames_module
from fastifo.data.frame_sampler import shifted
from fastifo.data.sampler import Batch, Sampler, Transitions
from fastifo.data.stack import stacked
from image_data import CHANNELS, HEIGHT, WIDTH, image_dataset, stamp

PIXELS = HEIGHT * WIDTH * 3


def draw(dataset: Any, update: int = 0, **options: Any) -> Batch:
    needs = options.pop("needs", frozenset({"expert", "initial", "triples"}))
    sampler = Sampler(
        dataset, options.pop("seeds", (0, 1)), 16, needs, "test", torch.device("cpu"),
        torch.float32, cameras=tuple(CHANNELS), reuses=True, **options,
    )  # fmt: skip
    return sampler.draw(torch.tensor([update]))


def frame_of(row: Tensor, camera: str) -> Tensor:
    """The frame in a row of a batch."""
    pixels = row[2 : 2 + PIXELS] if camera == "front" else row[2 + PIXELS :]
    return pixels.view(HEIGHT, WIDTH, -1).to(torch.uint8)


def assert_frames_match(part: str, *columns: Tensor) -> None:
    """Observations are episode and step; the frames behind them must be of the same."""
    for column in columns:
        for row in column.flatten(0, -2):
            number, step = (round(10 * value) for value in row[:2].tolist())
            for camera in CHANNELS:
                assert torch.equal(frame_of(row, camera), stamp(camera, part, number, step))


def assert_batch_matches(batch: Batch) -> None:
    for part, rows in (("background", batch.background), ("expert", batch.expert)):
        assert isinstance(rows, Transitions)
        assert rows.after_obs is not None
        assert_frames_match(part, rows.obs, rows.next_obs, rows.after_obs)
    assert batch.initial is not None
    assert_frames_match("background", batch.initial)
    assert not batch.initial[..., 1].any()


def test_frames_belong_to_the_observations() -> None:
    assert_batch_matches(draw(image_dataset()))


def test_frames_across_the_blocks_of_a_pack(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(frames_module, "BLOCK_BYTES", 2 * PIXELS)
    image_dataset().save(tmp_path / "a.fastifo")
    loaded = fastifo.load(tmp_path / "a.fastifo")
    assert loaded.images["front"].stores[0].per_block == 2
    for update in range(3):
        assert_batch_matches(draw(loaded, update))


def test_frames_of_several_datasets() -> None:
    first = image_dataset()
    assert first.expert is not None
    second = fastifo.Dataset(first.background.take([2]), first.expert)
    batch = draw(stacked([first, second], [0, 1]), needs=frozenset({"expert", "triples"}))
    assert batch.expert is not None
    assert_frames_match("background", batch.background.obs, batch.background.next_obs)
    assert_frames_match("expert", batch.expert.obs)
    assert bool((batch.background.obs[1, :, 0] == 0.2).all())


def test_numbers_before_the_pixels_are_those_without_images() -> None:
    batch = draw(image_dataset(), shift=2)
    plain = Sampler(
        image_dataset(), (0, 1), 16, frozenset({"expert", "initial", "triples"}), "test",
        torch.device("cpu"), torch.float32,
    ).draw(torch.tensor([0]))  # fmt: skip
    assert torch.equal(batch.background.obs[..., :2], plain.background.obs)
    assert batch.background.action is not None
    assert plain.background.action is not None
    assert torch.equal(batch.background.action, plain.background.action)


def test_shifts_follow_seed_and_update_only() -> None:
    dataset = image_dataset()
    both = draw(dataset, shift=3).background.obs.clone()
    assert torch.equal(both[1:], draw(dataset, shift=3, seeds=(1,)).background.obs)
    assert not torch.equal(both, draw(dataset).background.obs)
    again = draw(dataset, shift=3)
    assert torch.equal(both, again.background.obs)


def test_a_shifted_frame_is_a_crop_of_the_padded_one() -> None:
    frames = torch.stack([stamp("front", "background", 0, step) for step in range(3)])
    offsets = torch.tensor([[2, -1], [0, 0], [-3, 3]])
    padded = torch.nn.functional.pad(frames.permute(0, 3, 1, 2).float(), (3, 3, 3, 3), "replicate")
    for frame, (down, right), result in zip(
        padded, offsets.tolist(), shifted(frames, offsets), strict=True
    ):
        crop = frame[:, 3 + down : 3 + down + HEIGHT, 3 + right : 3 + right + WIDTH]
        assert torch.equal(result, crop.permute(1, 2, 0).to(torch.uint8))


def test_frames_that_do_not_fit_a_gpu_stay_on_the_host(monkeypatch: Any) -> None:
    frames, device = list(image_dataset().images.values()), torch.device("cuda")
    needed = sum(each.size_bytes for each in frames)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * needed, 3 * needed))
    assert frame_sampler.fits_gpu(frames, device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed, 3 * needed))
    assert not frame_sampler.fits_gpu(frames, device)


def test_batches_of_frames_on_the_host_are_the_same() -> None:
    dataset, counter = image_dataset(), torch.tensor([5])
    plain, host = (
        Sampler(
            dataset, (0, 1), 4, frozenset(), "test", torch.device("cpu"), torch.float32,
            cameras=tuple(CHANNELS), shift=2, reuses=True,
        )
        for _ in range(2)
    )  # fmt: skip
    assert not plain.reads_host
    assert host.background.frames is not None
    host.background.frames.reads_host = True  # as on a GPU without room
    for _ in range(2):
        assert torch.equal(plain.draw(counter).background.obs, host.draw(counter).background.obs)
        counter += 1
    assert set(host.background.frames.staged) == set(CHANNELS)


@pytest.mark.parametrize("camera", CHANNELS)
def test_all_shifts_occur(camera: str) -> None:
    dataset = image_dataset((camera,))
    sampler = Sampler(
        dataset, (0,), 512, frozenset(), "test", torch.device("cpu"), torch.float32,
        cameras=(camera,), shift=1,
    )  # fmt: skip
    frames = sampler.background.frames
    assert frames is not None
    offsets = frames._offsets("x", torch.zeros(2, 1, 512), torch.tensor([5]))
    counts = torch.bincount((offsets + 1) @ torch.tensor([3, 1]), minlength=9)
    assert counts.sum() == 1024
    assert bool(((counts - 1024 / 9).abs() < 5 * (1024 / 9) ** 0.5).all())
