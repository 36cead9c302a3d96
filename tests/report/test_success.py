"""Success in data, tables, figures and files, where the environment measures it."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
import own_envs
from fastifo.data.episodes import Episodes
from fastifo.envs.returns import Returns
from fastifo.envs.rollout import collect
from fastifo.envs.spec import as_spec
from fastifo.report.aggregates import aggregate_gains, aggregate_tables, improvement_table
from fastifo.report.figures import draw_differences, runs_by_task
from fastifo.report.report import read_improvements, report
from fastifo.report.run_figures import draw_runs
from fastifo.report.runs import read_runs
from fastifo.report.tables import run_table
from fastifo.utils.statistics import wilson_interval
from support import LinearPolicy


def played(gain: float, goal: float = 0.2, count: int = 30) -> Episodes:
    """Episodes of a policy that pushes to 0, with the more force the higher the gain."""
    policy = LinearPolicy(0, gain, 2, 1)
    policy.weight = torch.tensor([[-5.0], [0.0]], dtype=torch.float64)
    spec = as_spec(own_envs.Line, kwargs={"goal": goal})
    bounds = (torch.tensor([-2.0]), torch.tensor([2.0]))
    return collect(policy, spec, count, False, seed=0, title="t", bounds=bounds, progress=False)


def dataset(gain: float) -> fastifo.Dataset:
    low, high = torch.tensor([-2.0]), torch.tensor([2.0])
    return fastifo.Dataset(
        played(gain), env_id="own_envs:Line", action_low=low, action_high=high,
        info={"expert_success": 0.9, "expert_returns": [-1.0, -2.0]},
        env_kwargs={"goal": 0.2},
    )  # fmt: skip


def test_success_of_played_episodes_is_kept_in_packs_and_parts(tmp_path: Path) -> None:
    episodes = played(1.0)
    assert episodes.success is not None
    assert episodes.success.dtype == torch.bool
    assert 0 < int(episodes.success.sum()) < 30
    for e in range(30):
        x = episodes.obs[int(episodes.start[e]) + e + 1 : int(episodes.start[e + 1]) + e + 1, 0]
        assert bool(episodes.success[e]) == bool(((x - 0.2).abs() < 0.05).any())
    chosen = episodes.take([3, 0, 5]).success
    assert chosen is not None
    assert chosen.tolist() == episodes.success[[3, 0, 5]].tolist()
    joined = Episodes.joined([episodes.take([1]), episodes.take([2])]).success
    assert joined is not None
    assert joined.tolist() == episodes.success[1:3].tolist()
    assert episodes.without_rewards().success is None
    fastifo.Dataset(episodes).save(tmp_path / "a.fastifo")
    assert fastifo.load(tmp_path / "a.fastifo").background == episodes
    none = fastifo.Dataset.from_episodes([{"obs": np.ones((3, 2)), "action": np.zeros((2, 1))}])
    assert none.background.success is None


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    fields: dict[str, Any] = {
        "num_updates": 20, "hidden_sizes": (8,), "progress": False, "seeds": [0, 1],
        "env": own_envs.Line, "env_kwargs": {"goal": 0.2},
        "callbacks": [fastifo.callbacks.EvaluateEvery(10, 4)],
    }  # fmt: skip
    for name in ("bc", "awr"):
        run = fastifo.train(name, [dataset(0.2), dataset(1.0)], out=folder / name, **fields)
        run.evaluate(20, progress=False)
        run.evaluate(10, deterministic=True, progress=False)
    return folder


def test_tables_and_the_csv_file_state_success(study: Path) -> None:
    report(study)
    (first, *_) = read_runs(study)
    table = run_table([first])
    column, mode = (list(table.header).index(name) for name in ("success", "mode, success"))
    rows = {row[0]: row for row in table.rows}
    assert rows["background"][column] == f"{first.background_success:.0%}"
    assert rows["expert"][mode] == "90%"
    assert first.returns is not None
    assert first.returns.success is not None
    assert first.returns.success_interval is not None
    low, high = first.returns.success_interval
    expected = f"{first.returns.success:.0%} ({low:.0%} to {high:.0%})"
    assert rows[first.algorithm][column] == expected
    with open(study / "results.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    rates = first.returns.success_per_member
    assert rates is not None
    assert float(lines[0]["success"]) == pytest.approx(rates[0], abs=1e-3)
    assert all(0 <= float(line["success_mode"]) <= 1 for line in lines)
    assert float(lines[0]["background_success"]) == pytest.approx(
        first.background_success, abs=1e-3
    )


def test_figures_show_success(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[tuple[str, str]] = []
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.axes import Axes

    original = Axes.set_ylabel

    def note(self: Any, label: str, *args: Any, **k: Any) -> Any:
        labels.append((label, self.get_xlabel()))
        return original(self, label, *args, **k)

    monkeypatch.setattr(Axes, "set_ylabel", note)
    report(study)
    bars = "bars: 95 % Wilson intervals, dots: seeds"
    of_background = "mean success of the background"
    assert (f"success minus the background's mean\n{bars}", of_background) in labels
    assert (f"success\n{bars}", of_background) in labels
    labels.clear()
    draw_runs(read_runs(study / "bc")[:1], study / "one.png")
    drawn = [label for label, _ in labels]
    assert drawn == ["success, 95 % interval; dots: seeds", "success, mean over seeds"]


def test_figures_show_intervals_of_success_sampled_and_mode(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: list[list[float]] = []

    def note(self: Any, x: float, y: float, yerr: Any, **k: Any) -> None:
        drawn.append([float(value) for value in (y, *np.ravel(yerr))])

    monkeypatch.setattr(Axes, "errorbar", note)
    runs = read_runs(study)
    draw_differences(runs_by_task(runs), study / "differences.png")
    expected = []
    for run in runs:
        for returns in (run.returns, run.deterministic):
            assert returns is not None
            assert returns.success is not None
            assert returns.success_interval is not None
            low, high = returns.success_interval
            rate, background = returns.success, run.background_success
            assert background is not None
            expected.append([rate - background, rate - low, high - rate])
    assert len(drawn) == 8
    np.testing.assert_allclose(drawn, expected)


def test_success_of_all_sets_is_compared_with_the_backgrounds(study: Path) -> None:
    runs = read_runs(study)
    rows = aggregate_gains(runs)
    assert [row[0] for row in rows] == ["bc", "awr"]
    name: Any
    mean: Any
    bounds: Any
    for name, mean, bounds, num_sets in rows:
        low, high = bounds
        gains = []
        for run in runs:
            if run.algorithm == name:
                assert run.returns is not None
                assert run.background_success is not None
                assert run.returns.success is not None
                gains.append(run.returns.success - run.background_success)
        assert mean == pytest.approx(np.mean(gains))
        assert low <= mean <= high
        assert num_sets == 2
    (table,) = aggregate_tables(runs)
    assert table.title.startswith("All sets together: mean success minus the background's")
    assert table.rows[0][:2] == ["bc", f"{rows[0][1]:+.1%}"]


def test_self_improvement_reports_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = dataset(0.2)
    result = fastifo.improve(
        "bc", start, start, iterations=1, episodes=5, seeds=[0], out=tmp_path, num_updates=2,
        hidden_sizes=(8,), progress=False, env_id=own_envs.Line,
    )  # fmt: skip
    assert result.success is not None
    first, second = result.success[0]
    assert start.background.success is not None
    assert first == pytest.approx(float(start.background.success.double().mean()))
    assert second in [0.2 * count for count in range(6)]
    assert result.measured == result.success
    assert "bc, success after" in " ".join(str(result).split())
    assert read_improvements(tmp_path) == [result]
    report(tmp_path)
    assert "success after each iteration" in (tmp_path / "report.html").read_text()
    assert improvement_table(result).rows[0][1] == f"{first:.2f}"
    # Files from before success was kept have returns alone.
    path = tmp_path / "improve.json"
    content = json.loads(path.read_text())
    del content["success"]
    path.write_text(json.dumps(content))
    (old,) = read_improvements(tmp_path)
    assert (old.success, old.measured, old.measure) == (None, result.returns, "return")
    capsys.readouterr()


def test_success_during_training_is_logged_and_averaged(study: Path) -> None:
    run = fastifo.open_run(study / "bc")
    last = run.evaluate(protocol="last_tenth")
    assert last.success is not None
    assert last.successes is not None
    assert last.successes.shape == last.returns.shape == (4, 1)
    assert last.success_interval is not None


def test_wilsons_interval_has_its_published_values() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998
    with pytest.raises(ValueError, match="count: expected at least 1"):
        wilson_interval(0, 0)


def test_the_interval_of_success_covers_its_rate_as_often_as_its_level() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.05, 0.5, 0.9):
        ends = [wilson_interval(rng.binomial(40, rate), 40) for _ in range(500)]
        covered = sum(low <= rate <= high for low, high in ends)
        assert 0.90 <= covered / 500 <= 0.99


def test_a_run_of_which_only_the_mode_was_played_is_in_the_csv_file(
    study: Path, tmp_path: Path
) -> None:
    shutil.copytree(study, tmp_path / "runs")
    (tmp_path / "runs" / "awr" / "returns.npz").unlink()
    report(tmp_path / "runs")
    with open(tmp_path / "runs" / "results.csv") as file:
        lines = [line for line in csv.DictReader(file) if line["algorithm"] == "awr"]
    mode = Returns.load(study / "awr" / "returns-deterministic.npz")
    rates = mode.success_per_member
    assert rates is not None
    assert len(lines) == 4
    for member, line in enumerate(lines):
        assert line["return"] == line["std"] == line["score"] == line["success"] == ""
        assert float(line["mode"]) == pytest.approx(mode.per_member[member], abs=0.051)
        assert float(line["success_mode"]) == pytest.approx(rates[member], abs=1e-3)
        assert (line["updates"], line["episodes"]) == ("20", "10")
