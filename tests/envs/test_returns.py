"""Returns: files, statistics, scores and confidence intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastifo.envs.returns import Returns
from fastifo.envs.scores import normalized_score, score_remark
from fastifo.utils.statistics import bootstrap_interval
from support import contents, full_disk

ENV = "Hopper-v4"


def make_returns(**fields: Any) -> Returns:
    defaults: dict[str, Any] = {
        "returns": np.array([[1.0, 3.0], [5.0, 7.0]]),
        "lengths": np.array([[10, 20], [30, 40]]),
        "env_id": ENV,
        "deterministic": False,
        "versions": {"envpool": "1"},
    }
    return Returns(**defaults | fields)


def test_saved_returns_are_read_back(tmp_path: Path) -> None:
    before = make_returns(deterministic=True)
    before.save(tmp_path / "returns.npz")
    after = Returns.load(tmp_path / "returns.npz")
    for name, value in vars(before).items():
        assert np.array_equal(getattr(after, name), value), name
    with np.load(tmp_path / "returns.npz", allow_pickle=False) as file:
        assert json.loads(str(file["header"]))["versions"] == {"envpool": "1"}


def test_a_damaged_or_unrelated_returns_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "returns.npz"
    make_returns().save(path)
    valid = path.read_bytes()
    np.savez(tmp_path / "unrelated.npz", a=np.zeros(2))
    np.save(tmp_path / "plain.npy", np.zeros(2))
    cuts = [valid[:size] for size in (0, 3, 30, len(valid) // 2, len(valid) - 1)]
    flips = [valid[:i] + bytes([valid[i] ^ 0xFF]) + valid[i + 1 :] for i in range(0, 300, 7)]
    unrelated = [(tmp_path / n).read_bytes() for n in ("unrelated.npz", "plain.npy")] + [b"text"]
    messages = []
    for content in [*cuts, *flips, *unrelated]:
        path.write_bytes(content)
        try:
            assert np.array_equal(Returns.load(path).returns, make_returns().returns)
        except ValueError as error:
            messages.append(str(error))
    assert all("returns.npz: expected the returns of a run" in text for text in messages)
    assert all(text.endswith("if a sweep wrote it, run the sweep again") for text in messages)
    assert len(messages) > len(cuts) + len(unrelated) + len(flips) // 2
    np.savez(path, header=np.array("text"), returns=np.zeros((1, 1)), lengths=np.zeros((1, 1)))
    with pytest.raises(
        ValueError, match=r"expected JSON, found something else \(.*\); delete it and"
    ):
        Returns.load(path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        Returns.load(tmp_path / "nowhere")


def test_a_full_disk_keeps_the_old_returns(tmp_path: Path) -> None:
    make_returns().save(tmp_path / "returns.npz")
    before = contents(tmp_path)
    with full_disk(), pytest.raises(OSError, match=r"returns\.npz: could not be written"):
        make_returns(env_id="Ant-v4").save(tmp_path / "returns.npz")
    assert contents(tmp_path) == before


def test_mean_std_and_member_means_are_over_episodes() -> None:
    returns = make_returns()
    assert returns.mean == 4.0
    assert returns.std == pytest.approx(5**0.5)
    assert returns.per_member.tolist() == [2.0, 6.0]
    assert "2 members x 2 episodes (sampled), D4RL score" in str(returns)
    assert "(mode)" in str(make_returns(deterministic=True))
    assert "score" not in str(make_returns(env_id="Pusher-v4"))


def test_the_score_is_0_for_random_and_100_for_the_reference_expert() -> None:
    assert normalized_score("Hopper-v4", -20.272305) == pytest.approx(0.0)
    assert normalized_score("Hopper-v2", 3234.3) == pytest.approx(100.0)
    assert normalized_score("Walker2d-v4", 0.5 * (1.629008 + 4592.3)) == pytest.approx(50.0)
    assert normalized_score("HalfCheetah-v4", -280.178953) == pytest.approx(0.0)
    assert normalized_score("HalfCheetah-v4", 12135.0) == pytest.approx(100.0)
    assert normalized_score("Ant-v4", -325.6) == pytest.approx(0.0)
    assert normalized_score("Ant-v4", 3879.7) == pytest.approx(100.0)
    assert normalized_score("Pusher-v4", 1.0) is None


@pytest.mark.parametrize(
    ("env_id", "low", "high"),
    [
        ("maze2d-umaze-v1", 23.85, 161.86), ("maze2d-medium-v1", 13.13, 277.39),
        ("maze2d-large-v1", 6.7, 273.99), ("antmaze-umaze-v2", 0.0, 1.0),
        ("antmaze-large-diverse-v2", 0.0, 1.0), ("kitchen-mixed-v0", 0.0, 4.0),
        ("hopper-medium-v2", -20.272305, 3234.3), ("ant-expert-v2", -325.6, 3879.7),
        ("pen-human-v1", 96.262799, 3076.8331017826877),
        ("door-cloned-v1", -56.512833, 2880.5693087298737),
        ("hammer-expert-v1", -274.856578, 12794.134825156867),
        ("relocate-human-v1", -6.425911, 4233.877797728884),
    ],
)  # fmt: skip
def test_d4rls_own_names_have_its_scores(env_id: str, low: float, high: float) -> None:
    assert normalized_score(env_id, low) == pytest.approx(0.0)
    assert normalized_score(env_id, high) == pytest.approx(100.0)
    assert score_remark(env_id) == ""


@pytest.mark.parametrize(
    ("env_id", "reason"),
    [
        ("PointMaze_UMaze-v3", "time limits"), ("AntMaze_Large_Diverse_GR-v4", "another ant"),
        ("FrankaKitchen-v1", "dynamics"), ("maze2d-umaze-dense-v1", "sparse"),
        ("maze2d-open-v0", "umaze, medium and large"), ("Ant-v5", "up to v4"),
    ],
)  # fmt: skip
def test_tasks_without_a_comparable_score_say_why(env_id: str, reason: str) -> None:
    assert normalized_score(env_id, 1.0) is None
    assert reason in score_remark(env_id)
    assert normalized_score(env_id, 1.0, (0.0, 4.0)) == 25.0
    assert score_remark(env_id, (0.0, 4.0)) == ""


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5", "Ant-v5", "Walker2d-v6"])
def test_versions_with_other_rewards_have_no_d4rl_score_but_a_remark(env_id: str) -> None:
    assert normalized_score(env_id, 100.0) is None
    assert normalized_score(env_id, 5.0, (0.0, 10.0)) == 50.0  # the dataset's own reference
    assert env_id in score_remark(env_id)
    assert score_remark(env_id, (0.0, 10.0)) == ""
    text = str(make_returns(env_id=env_id))
    assert f"no score for {env_id}: D4RL's reference returns are of versions up to v4" in text
    assert score_remark("Hopper-v4") == score_remark("Pendulum-v1") == ""


def test_success_rates_keep_their_decimals() -> None:
    rates = np.array([[1.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]])
    returns = make_returns(returns=rates, lengths=np.ones((2, 5), int), env_id="Lift", seeds=(3, 4))
    assert str(returns).startswith("Lift: return 0.40 [0.10, 0.70] over 2 members x 5 episodes")
    assert str(returns).endswith("by seed 0.60 0.20")
    assert repr(returns) == (
        "Returns(Lift, sampled actions, 2 members x 5 episodes, mean returns 0.20 to 0.60)"
    )


def test_the_settings_of_a_sweep_are_not_pooled(tmp_path: Path) -> None:
    values = np.array([[100.0], [200.0], [900.0], [1000.0]]) + np.zeros((4, 3))
    sweep = make_returns(
        returns=values, lengths=np.ones((4, 3), int), seeds=(0, 1, 0, 1),
        settings=("alpha=0.1", "alpha=0.1", "alpha=0.5", "alpha=0.5"),
    )  # fmt: skip
    sweep.save(tmp_path / "returns.npz")
    for returns in (sweep, Returns.load(tmp_path / "returns.npz")):
        title, first, second, best = str(returns).splitlines()
        assert title == "Hopper-v4: return of each setting (sampled)"
        assert first.startswith("  alpha=0.1  150 [150, 150] over 2 members x 3 episodes")
        assert second.startswith("  alpha=0.5  950 [950, 950]")
        assert second.endswith("by seed 900 1000")
        assert best == "  best: member 3, seed=1, alpha=0.5, return 1000"
        assert {k: v.mean for k, v in returns.by_setting().items()} == {
            "alpha=0.1": 150.0, "alpha=0.5": 950.0,
        }  # fmt: skip
        assert returns.by_setting()["alpha=0.5"].seeds == (0, 1)
    assert list(make_returns().by_setting()) == [""]


def test_returns_have_a_length_members_and_equality() -> None:
    returns = make_returns()
    assert len(returns) == 2
    assert returns[-1].tolist() == [5.0, 7.0]
    assert [row.tolist() for row in returns] == [[1.0, 3.0], [5.0, 7.0]]
    assert returns == make_returns()
    assert returns != make_returns(returns=np.array([[1.0, 3.0], [5.0, np.nan]]))
    with pytest.raises(IndexError, match="member: expected -2 to 1, found 2"):
        returns[2]


def test_the_interval_contains_the_mean_and_shrinks_with_more_episodes() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(1, 25)), rng.normal(size=(1, 2500))
    for values in (few, many):
        low, high = bootstrap_interval(values)
        assert low < values.mean() < high
        # The interval of a normal approximation, within a fifth of its width.
        assert high - low == pytest.approx(2 * 1.96 * values.std() / values.size**0.5, rel=0.2)
    assert bootstrap_interval(few) == bootstrap_interval(few)


def test_the_interval_resamples_within_members_so_their_difference_does_not_widen_it() -> None:
    values = np.array([[0.0] * 10, [1000.0] * 10])
    assert bootstrap_interval(values) == (500.0, 500.0)


def test_the_interval_covers_the_true_mean_as_often_as_its_level() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_interval(rng.normal(size=(1, 50)), resamples=200)
        covered += low < 0.0 < high
    assert 85 <= covered <= 100  # 95 are expected; 85 is 4.6 standard deviations below
