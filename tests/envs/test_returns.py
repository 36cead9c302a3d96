"""Returns: files, statistics, scores and confidence intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastifo.envs.returns import Returns, bootstrap_interval, normalized_score
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
    assert len(messages) > len(cuts) + len(unrelated) + len(flips) // 2
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
    assert returns.per_member == [2.0, 6.0]
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
