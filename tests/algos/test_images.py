"""Methods learn from frames: populations, resuming, acting, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from engine.runs import assert_equal_bits
from fastifo.algos.presets import preset_fields
from image_data import image_dataset, share_right, signal_dataset

FIELDS: dict[str, Any] = {
    "hidden_sizes": (16,), "batch_size": 8, "image_features": 8, "log_every": 2, "progress": False,
}  # fmt: skip
STAGES: dict[str, dict[str, Any]] = {
    "vfo_disc": {"disc_updates": 2, "disc_batch_size": 8},
    "smodice": {"disc_updates": 2, "disc_batch_size": 8, "gradient_penalty": 10},
    "lobsdice": {"disc_updates": 2, "disc_batch_size": 8},
    "pw_dice": {"disc_updates": 2, "disc_batch_size": 8, "embedding_updates": 2},
    "oril": {"disc_updates": 2, "disc_batch_size": 8},
    "bco": {"inverse_updates": 2},
    "tailo": {"first_disc_updates": 2, "disc_updates": 2, "disc_batch_size": 8},
}


@pytest.fixture(scope="module")
def dataset() -> fastifo.Dataset:
    return image_dataset()


def frames(dataset: fastifo.Dataset, row: int = 0) -> dict[str, torch.Tensor]:
    return {camera: images[row] for camera, images in dataset.images.items()}


@pytest.mark.parametrize(
    "name",
    [*STAGES, "bc", "awr", "vfo_bin", "dilo", "sqil", "iql", "rebrac"],
)
def test_every_method_of_nets_learns_from_frames(name: str, dataset: fastifo.Dataset) -> None:
    run = fastifo.train(name, dataset, num_updates=2, **FIELDS, **STAGES.get(name, {}))
    assert run.engine == "torch"
    before = fastifo.train(name, dataset, num_updates=1, **FIELDS, **STAGES.get(name, {}))
    names = [n for n, _ in run.learners[0].named_parameters() if ".convolutions." in n]
    changed = dict(run.learners[0].named_parameters())
    for parameter, old in before.learners[0].named_parameters():
        constant = "target" in parameter or parameter.startswith("embedding.")
        trains = parameter in names and not constant
        assert not (trains and torch.equal(changed[parameter], old)), parameter
    assert names


@pytest.mark.parametrize("name", ["tge", "seabo", "otr"])
def test_methods_of_vectors_say_so_before_training(name: str, dataset: fastifo.Dataset) -> None:
    with pytest.raises(
        ValueError, match=f"{name} does not support images; .* front, wrist: use dataset.w"
    ):
        fastifo.train(name, dataset, num_updates=1, progress=False)


def test_what_cannot_read_frames_is_refused(dataset: fastifo.Dataset) -> None:
    with pytest.raises(
        ValueError, match=r"engine: native cannot train this: .* does not support images"
    ):
        fastifo.train("bc", dataset, num_updates=1, engine="native", **FIELDS)
    with pytest.raises(ValueError, match="absorbing_indicator: an absorbing state has no image"):
        fastifo.train("smodice", dataset, num_updates=1, absorbing_indicator=True, **FIELDS)
    assert dataset.expert is not None
    blind = fastifo.Dataset(dataset.background, dataset.with_cameras().expert)
    with pytest.raises(ValueError, match="expert: expected frames of the camera 'front', found no"):
        fastifo.train("vfo_bin", blind, num_updates=1, **FIELDS)
    fastifo.train("bc", blind, num_updates=1, **FIELDS)


@pytest.mark.parametrize("encoder", ["drqv2", "spatial_softmax"])
def test_a_population_of_three_equals_three_single_runs(
    encoder: str, dataset: fastifo.Dataset
) -> None:
    def run(seeds: Any) -> fastifo.Run:
        fields = FIELDS | {"image_encoder": encoder, "precision": "fp64"}
        return fastifo.train("vfo_bin", dataset, num_updates=3, seeds=seeds, **fields)

    together = dict(run(range(3)).learners[0].named_parameters())
    for seed in range(3):
        for name, alone in run([seed]).learners[0].named_parameters():
            torch.testing.assert_close(together[name][seed], alone[0], rtol=1e-9, atol=1e-12)


def test_resuming_equals_never_stopping_bit_for_bit(
    dataset: fastifo.Dataset, tmp_path: Path
) -> None:
    dataset.save(tmp_path / "set.fastifo")
    source = str(tmp_path / "set.fastifo")  # the same data from a pack
    whole = fastifo.train("vfo_bin", dataset, num_updates=6, seeds=range(2), **FIELDS)
    for updates in (3, 6):
        resumed = fastifo.train(
            "vfo_bin", source, num_updates=updates, seeds=range(2), out=tmp_path / "run", **FIELDS
        )
    assert_equal_bits(whole, resumed)
    opened = fastifo.open_run(tmp_path / "run")
    assert_equal_bits(whole, opened)
    assert opened.spec.images == dataset.cameras
    obs = torch.ones(2)
    for member in range(2):
        actions = [run[member].act(obs, images=frames(dataset)) for run in (whole, opened)]
        assert torch.equal(*actions)
    with pytest.raises(ValueError, match="holds another run"):
        fastifo.train(
            "vfo_bin", dataset.with_cameras("wrist"), num_updates=6, seeds=range(2),
            out=tmp_path / "run", **FIELDS,
        )  # fmt: skip


def test_augmentation_leaves_acting_alone(dataset: fastifo.Dataset) -> None:
    runs = [
        fastifo.train("bc", dataset, num_updates=1, image_shift=shift, **FIELDS) for shift in (0, 4)
    ]
    target, source = (run.learners[0] for run in runs)
    assert not torch.equal(
        next(target.policy.parameters()), next(source.policy.parameters())
    )  # frames were shifted in training
    target.load_state_dict(source.state_dict())
    actions = [
        run[0].act(torch.ones(2), deterministic=False, images=frames(dataset)) for run in runs
    ]
    assert torch.equal(*actions)


def test_acting_needs_the_frames_of_training(dataset: fastifo.Dataset) -> None:
    fields = FIELDS | {"policy_head": "deterministic"}
    policy = fastifo.train("bc", dataset, num_updates=1, **fields)[0]
    images = frames(dataset)
    batch = {camera: frame.expand(3, *frame.shape) for camera, frame in images.items()}
    actions = policy.act(torch.ones(3, 2), images=batch | {"another": torch.zeros(1)})
    one = policy.act(torch.ones(2).numpy(), images={k: v.numpy() for k, v in images.items()})
    torch.testing.assert_close(actions[2], torch.from_numpy(one))
    assert not torch.equal(policy.act(torch.ones(2), images=frames(dataset, 4)), actions[0])
    assert "2 observations and front and wrist -> 2 actions" in repr(policy)
    with pytest.raises(
        ValueError, match=r"a frame of the camera 'front', uint8 \[16, 17, 3\], fou"
    ):
        policy.act(torch.ones(2))
    with pytest.raises(ValueError, match=r"camera 'wrist', .*found front"):
        policy.act(torch.ones(2), images={"front": images["front"]})
    with pytest.raises(TypeError, match="'front': expected uint8, found torch"):
        policy.act(torch.ones(2), images=images | {"front": images["front"] / 255})
    with pytest.raises(ValueError, match=r"expected \[1, 16, 17, 3\], found \[16, 17, 3\]"):
        policy.act(torch.ones(1, 2), images=images)


@pytest.mark.parametrize(("name", "wrong_share"), [("bc", 0.0), ("vfo_bin", 0.5)])
def test_a_task_that_only_pixels_tell_is_solved(name: str, wrong_share: float) -> None:
    data = signal_dataset(wrong_share)
    values: dict[str, Any] = {"gamma": 0.8, "target_period": 10} if name == "vfo_bin" else {}
    run = fastifo.train(
        name, data, num_updates=250, hidden_sizes=(32,), batch_size=16, image_features=16,
        image_shift=1, learning_rate=3e-3, progress=False,
        **values,
    )  # fmt: skip
    assert share_right(run[0], data) >= 0.95


def test_the_preset_of_robomimics_images_adds_to_that_of_robomimic() -> None:
    for name in ("bc", "vfo_bin", "awr"):
        fields = preset_fields(name, "robomimic-image")
        assert preset_fields(name, "robomimic").items() < fields.items()
