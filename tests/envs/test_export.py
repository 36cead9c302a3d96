"""Exported policies: they act without fastifo as the policy acts, and say what they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastifo
from cli.commands import run as run_command
from engine.runs import train
from fastifo.algos.learner import InputSpec
from fastifo.envs import export
from fastifo.envs.experts.exported import read_exported
from fastifo.envs.policy import Policy
from fastifo.utils import provenance
from helpers import ACTION_DIM, OBS_DIM, make_learner, random_dataset
from image_data import CHANNELS, HEIGHT, WIDTH, image_dataset

LOW, HIGH = torch.tensor([-2.0, -1.0]), torch.tensor([2.0, 3.0])
ONNX = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
inputs = dict(np.load(sys.argv[2]))
np.save(sys.argv[3], session.run(None, inputs)[0])
single = session.run(None, {name: rows[:1] for name, rows in inputs.items()})[0]
assert single.shape == (1, 2), single.shape
metadata = session.get_modelmeta().custom_metadata_map["policy.json"]
print(json.dumps([metadata, [name for name in ("fastifo", "torch") if name in sys.modules]]))
"""
PT2 = """
import json, sys
import numpy as np
import torch
extra = {"policy.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra).module()
inputs = {name: torch.from_numpy(rows) for name, rows in np.load(sys.argv[2]).items()}
images = {name: inputs.pop(name) for name in list(inputs) if name not in ("obs", "uniform")}
further = {"images": images} if images else {}
np.save(sys.argv[3], program(*inputs.values(), **further).detach().numpy())
print(json.dumps([extra["policy.json"], [name for name in ("fastifo",) if name in sys.modules]]))
"""


def make_policy(name: str, **fields: Any) -> Policy:
    """An untrained policy with observations that are scaled, and bounds of its own."""
    learner = make_learner(name, **fields)
    learner.encoder.set_statistics(torch.tensor([1.0, 0.0, -2.0]), torch.tensor([0.5, 2.0, 1.0]))
    return Policy(learner, 0, LOW, HIGH, facts={"env_id": "Task-v1"})


def run_alone(code: str, file: Path, **inputs: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """The file's actions and metadata, from a process that does not import fastifo."""
    arrays: dict[str, Any] = {name: x.numpy() for name, x in inputs.items()}
    np.savez(file.with_suffix(".npz"), **arrays)
    arguments = [str(file), str(file.with_suffix(".npz")), str(file.with_suffix(".npy"))]
    result = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    text, imported = json.loads(result.stdout)
    assert imported == []
    return torch.from_numpy(np.load(file.with_suffix(".npy"))), json.loads(text)


def test_an_onnx_file_samples_as_the_policy_does(tmp_path: Path) -> None:
    run = train("vfo_bin", random_dataset(action_low=LOW, action_high=HIGH, env_id=None))
    policy, path = run.policy(), tmp_path / "policy.onnx"
    result = policy.export(path, deterministic=False)
    assert result.inputs == {"obs": OBS_DIM, "uniform": ACTION_DIM}
    assert result.rows_differing <= 0.01 * result.rows
    assert str(result).startswith(f"{path}: obs [B, 3], uniform [B, 2] -> action; ")

    obs, noise = 2 * torch.randn(400, OBS_DIM), torch.rand(400, 2 * ACTION_DIM)
    found, metadata = run_alone(ONNX, path, obs=obs, uniform=noise[:, :ACTION_DIM].contiguous())
    same = torch.isclose(found, policy.act_rows(obs, noise), rtol=0, atol=1e-5).all(1)
    assert float(same.float().mean()) >= 0.99
    assert metadata["action_low"] == LOW.tolist()
    assert metadata["algorithm"] == "vfo_bin"
    assert metadata["num_updates"] == 30
    assert metadata["config"]["temperature"] == vars(run.members[0].config)["temperature"]
    assert metadata["fastifo"] == fastifo.__version__
    assert metadata["commit"] == provenance.commit()
    assert not metadata["deterministic"]


def test_a_torch_program_acts_as_the_mode(tmp_path: Path) -> None:
    policy, path = make_policy("rebrac", hidden_sizes=(8,)), tmp_path / "policy.pt2"
    result = policy.export(path)
    assert result.rows_differing == 0
    obs = torch.randn(50, OBS_DIM)
    found, metadata = run_alone(PT2, path, obs=obs)
    torch.testing.assert_close(found, policy.act(obs), rtol=0, atol=1e-5)
    assert bool(((found >= LOW) & (found <= HIGH)).all())
    assert metadata["env_id"] == "Task-v1"
    assert metadata["deterministic"]
    assert b"/fastifo/" not in path.read_bytes()  # no paths of this machine


def image_policy(name: str, encoder: str, **fields: Any) -> Policy:
    """A policy of frames of two cameras after two updates."""
    run = train(
        name, image_dataset(), 2, image_encoder=encoder, image_features=8, hidden_sizes=(16,),
        engine="torch", **fields,
    )  # fmt: skip
    return run.policy()


def frames(rows: int) -> dict[str, Tensor]:
    return {
        camera: torch.randint(0, 256, (rows, HEIGHT, WIDTH, channels), dtype=torch.uint8)
        for camera, channels in CHANNELS.items()
    }


def both_ways(images: Tensor) -> Tensor:
    """The frames, and after them their negatives."""
    return torch.cat([images, 255 - images])


@pytest.mark.parametrize("encoder", ["drqv2", "spatial_softmax"])
@pytest.mark.parametrize(("suffix", "code"), [(".onnx", ONNX), (".pt2", PT2)])
def test_a_policy_of_frames_acts_alone_as_it_acts_here(
    tmp_path: Path, encoder: str, suffix: str, code: str
) -> None:
    policy, path = image_policy("bc", encoder, policy_head="normal"), tmp_path / f"policy{suffix}"
    result = policy.export(path)
    assert result.images == {"front": (16, 17, 3), "wrist": (16, 17, 1)}
    assert (result.rows, result.rows_differing) == (export.IMAGE_ROWS, 0)
    assert "obs [B, 2], front [B, 16, 17, 3], wrist [B, 16, 17, 1] -> action" in str(result)

    obs, images = torch.randn(9, 2).repeat(2, 1), frames(9)
    images = {"front": images["front"].repeat(2, 1, 1, 1), "wrist": both_ways(images["wrist"])}
    found, metadata = run_alone(code, path, obs=obs, **images)
    torch.testing.assert_close(found, policy.act(obs, images=images), rtol=0, atol=1e-5)
    assert float((found[9:] - found[:9]).abs().amax(1).min()) > 0  # both cameras matter
    assert metadata["images"] == {"front": [16, 17, 3], "wrist": [16, 17, 1]}
    with pytest.raises(ValueError, match="found one that reads the frames of front, wrist"):
        read_exported(path)


@pytest.mark.parametrize(("suffix", "code"), [(".onnx", ONNX), (".pt2", PT2)])
def test_samples_of_a_policy_of_frames(tmp_path: Path, suffix: str, code: str) -> None:
    policy, path = image_policy("vfo_bin", "drqv2", precision="bf16"), tmp_path / f"a{suffix}"
    assert policy.export(path, deterministic=False).inputs == {"obs": 2, "uniform": 2}
    policy = image_policy("vfo_bin", "drqv2")
    policy.export(path, deterministic=False)
    obs, noise, images = torch.randn(200, 2), torch.rand(200, 4), frames(200)
    found, _ = run_alone(code, path, obs=obs, uniform=noise[:, :2].contiguous(), **images)
    same = torch.isclose(found, policy.act_rows(obs, noise, images), rtol=0, atol=1e-5).all(1)
    assert float(same.float().mean()) >= 0.99


@pytest.mark.parametrize(
    "fields",
    [
        {"policy_head": "normal", "standardize_obs": True, "encoder_scales": ()},
        {"policy_head": "gaussian", "activation": "elu", "hidden_sizes": ()},
        {"action_jitter": True, "kernel_reading": "probs", "hidden_sizes": ()},
    ],
)
def test_samples_of_every_head_with_two_numbers_for_each(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    policy = make_policy("bc", **fields)
    result = policy.export(tmp_path / "policy.pt2", deterministic=False)
    assert result.inputs == {"obs": OBS_DIM, "uniform": 2 * ACTION_DIM}
    assert result.rows_differing <= 0.01 * result.rows


def test_a_policy_trained_in_bf16_is_exported_as_it_acts(tmp_path: Path) -> None:
    run = train("bc", random_dataset(), 2, precision="bf16", engine="torch", policy_head="normal")
    result = run.policy().export(tmp_path / "policy.pt2")
    assert (result.rows, result.rows_differing) == (export.CHECK_ROWS, 0)


def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.pt2"
    with pytest.raises(ValueError, match=r"policy\.pkl: expected a name that ends in .onnx or"):
        make_policy("bc").export(tmp_path / "policy.pkl")
    with pytest.raises(ValueError, match=r"rebrac has a deterministic policy"):
        make_policy("rebrac").export(path, deterministic=False)
    with pytest.raises(TypeError, match="deterministic: expected True or False"):
        make_policy("rebrac").export(path, deterministic="mode")  # type: ignore[arg-type]

    other = make_policy("bc")
    monkeypatch.setattr(other.learner, "encoder", nn.Identity())
    with pytest.raises(ValueError, match="expected fastifo's encoder of observations, found Iden"):
        other.export(path)
    clash = make_policy("bc")
    clash.learner.spec = InputSpec(OBS_DIM, ACTION_DIM, images=(("action", 16, 16, 3),))
    with pytest.raises(ValueError, match=r"export: the camera 'action' has the name of another"):
        clash.export(path)

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(ImportError, match=r"onnxscript: pip install 'fastifo\[onnx\]'"):
            make_policy("bc", hidden_sizes=()).export(tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_would_act_differently_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy("rebrac", hidden_sizes=())
    act_rows = policy.act_rows

    def shifted(obs: Tensor, noise: Tensor | None, images: Any) -> Tensor:
        return act_rows(obs, noise, images) + 0.01

    monkeypatch.setattr(policy, "act_rows", shifted)
    with pytest.raises(ValueError, match=r"differs from this one in 2048 of 2048 random rows"):
        policy.export(tmp_path / "policy.pt2")

    def untraceable(obs: Tensor, uniform: Tensor | None) -> Tensor:
        return torch.zeros(1, int(obs.sum()) % 2 + 1, ACTION_DIM)

    monkeypatch.setattr(type(policy.learner), "act", staticmethod(untraceable))
    with pytest.raises(ValueError, match=r"torch.export cannot trace the `act` of rebrac"):
        policy.export(tmp_path / "policy.pt2")
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_one_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    train("rebrac", random_dataset(), 2, seeds=[0, 1], out=out, hidden_sizes=())
    command = ("export", out, "--out", tmp_path / "policy.pt2", "--member")
    status, printed, _ = run_command(capsys, *command, "1")
    assert status == 0
    assert printed.startswith("member 1, seed=1\n")
    assert "0 of 2048 random rows differ" in printed
    assert (tmp_path / "policy.pt2").exists()
    for member, words in (("2", "expected best or a number below 2, found 2"), ("best", "best: ")):
        status, _, error = run_command(capsys, *command, member)
        assert status == 2
        assert words in error
