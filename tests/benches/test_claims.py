"""Verdicts on the papers' claims follow from rows: large ones decide, small ones do not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.claims import figure, page, sources
from bench.claims.claims import TGE_CLAIMS, VFO, Claim
from bench.claims.evidence import Finding, Sample, decide, is_above, mean_sample
from bench.studies.cells import COLUMNS, Cell, Results


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Results]:
    for path in sources.RESULTS.glob("*.csv"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "improve.json").symlink_to(sources.RESULTS / "improve.json")
    for name in ("main.csv", "tge-study.csv"):
        (tmp_path / name).unlink(missing_ok=True)
    monkeypatch.setattr(sources, "RESULTS", tmp_path)
    page.answers.cache_clear()
    yield Results(tmp_path / "main.csv")
    page.answers.cache_clear()


def add(
    results: Results, cell: Cell, mean: float, background: float = 100.0, mode: float | None = None
) -> None:
    mode = mean if mode is None else mode
    values: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {
        "return": mean, "low": mean - 5, "high": mean + 5, "per_seed": f"{mean - 2} {mean + 2}",
        "background": background, "background_low": background - 5, "precision": "bf16",
        "background_high": background + 5, "expert": 300.0, "mode": mode, "spec": cell.spec,
        "mode_low": mode - 5, "mode_high": mode + 5, "mode_per_seed": f"{mode - 2} {mode + 2}",
    }  # fmt: skip
    results.add(cell, values)


def add_hopper(results: Results, mean: float, hidden: int = 256, updates: int = 200_000) -> None:
    """The rows that V2 needs."""
    for method in ("bc", "awr", "vfo_bin", "vfo_disc"):
        add(results, Cell("Hopper-v4", "middle", "spec", method, hidden, updates), mean)


def claim(number: str) -> Claim:
    return next(c for c in (*VFO, *TGE_CLAIMS) if c.number == number)


def test_a_difference_needs_its_interval_and_all_seeds_on_one_side() -> None:
    data = Sample(100.0, 97.0, 103.0)
    assert is_above(Sample(120.0, 116.0, 124.0, (118.0, 122.0)), data) == (True, 15.0, 25.0)
    assert is_above(Sample(80.0, 76.0, 84.0, (78.0, 82.0)), data) == (False, -25.0, -15.0)
    assert is_above(Sample(120.0, 116.0, 124.0, (99.0, 141.0)), data)[0] is None
    assert is_above(Sample(102.0, 98.0, 106.0, (101.0, 103.0)), data)[0] is None


def test_seeds_of_two_methods_are_compared_in_pairs() -> None:
    one, two = Sample(20.0, 19.0, 21.0, (10.0, 30.0)), Sample(15.0, 14.0, 16.0, (5.0, 25.0))
    assert is_above(one, two)[0] is True


def test_undecided_comparisons_leave_a_claim_open_until_they_cannot_matter() -> None:
    yes, no, open_ = Finding(True, ""), Finding(False, ""), Finding(None, "")
    assert decide([yes, yes]) is True
    assert decide([yes, open_]) is None
    assert decide([no, open_]) is False
    assert decide([yes, yes, yes, no], 0.75) is True
    assert decide([yes, yes, open_, no], 0.75) is None
    assert decide([yes, no, open_, no], 0.75) is False
    assert decide([]) is None


def test_the_interval_of_a_small_study_is_the_noise_of_its_episodes() -> None:
    sample = mean_sample([10.0, 20.0], [3.0, 4.0], 4)
    assert sample.mean == 15.0
    assert sample.high - sample.mean == pytest.approx(1.96 * 2.5 / 2)
    assert mean_sample([10.0, 20.0], [], 4) == Sample(15.0, 10.0, 20.0, (10.0, 20.0))


def test_without_rows_of_a_study_every_claim_is_open(results: Results) -> None:
    assert {page.verdict(c) for c in (*VFO, *TGE_CLAIMS)} == {"open"}
    assert page.small_verdict(claim("V2")).startswith("holds (128 x 2")


@pytest.mark.parametrize(("mean", "words"), [(50.0, "holds"), (150.0, "does not hold")])
def test_complete_rows_decide_and_name_their_size(
    results: Results, mean: float, words: str
) -> None:
    add_hopper(results, mean)
    assert page.verdict(claim("V2")) == f"{words} at 256 x 2, 200,000 updates"


def test_only_rows_of_the_papers_size_give_a_verdict_without_a_size(results: Results) -> None:
    add_hopper(results, 50.0, 512, 1_000_000)
    assert page.verdict(claim("V2")) == "holds"


def test_rows_that_are_short_or_incomplete_decide_nothing(results: Results) -> None:
    add_hopper(results, 50.0, updates=50_000)
    assert page.verdict(claim("V2")) == "open"
    assert page.small_verdict(claim("V2")) == "holds (256 x 2, 50,000 updates)"
    add(results, Cell("Hopper-v4", "middle", "spec", "bc", 256, 200_000), 500.0)
    page.answers.cache_clear()  # one that trained longer does not stand among the others
    assert page.small_verdict(claim("V2")) == "holds (256 x 2, 50,000 updates)"
    page.answers.cache_clear()
    add(results, Cell("Hopper-v4", "middle", "spec", "bc", 256, 200_000), 50.0)
    assert page.verdict(claim("V2")) == "open"
    assert "3 of 4 comparisons" in page.evidence()


def test_what_comes_out_otherwise_with_the_mode_is_told(results: Results) -> None:
    for method, mode in (("bc", 50.0), ("awr", 200.0), ("vfo_bin", 40.0), ("vfo_disc", 110.0)):
        cell = Cell("Hopper-v4", "middle", "spec", method, 256, 200_000)
        add(results, cell, 50.0, mode=mode)
    assert page.verdict(claim("V2")).startswith("holds")  # of sampled actions
    (line,) = (x for x in page.evidence().splitlines() if "otherwise with the mode" in x)
    assert "awr 200 vs. 1.1 x background 110 (+83 to +97), against" in line
    assert "vfo_disc 110 vs. 1.1 x background 110 (-7 to +7), undecided" in line
    assert "bc" not in line
    assert "vfo_bin" not in line


def test_overlapping_intervals_are_open(results: Results) -> None:
    add_hopper(results, 108.0)
    assert page.verdict(claim("V2")) == "open"


def test_the_page_lists_13_claims_of_vfo_and_those_of_tge() -> None:
    assert [c.number for c in VFO] == [f"V{i}" for i in range(1, 14)]
    assert page.claims_table(VFO).count("\n") == 14
    assert page.claims_table(TGE_CLAIMS).count("\n") == 5
    assert all(f'id="{c.number.lower()}"' in page.evidence() for c in (*VFO, *TGE_CLAIMS))


def test_the_figure_has_a_panel_for_each_set(results: Results) -> None:
    assert figure.draw("main.csv") is None
    add_hopper(results, 50.0)
    add(results, Cell("Ant-v4", "weak", "spec", "awr", 256, 200_000, "true_mdp"), 5.0)
    path = figure.draw("main.csv")
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "| Ant-v4 | weak | 100.0 | awr true_mdp |" in page.rows_table("main.csv")


def test_the_table_of_all_methods_takes_each_policys_longest_training(results: Results) -> None:
    spec = "sibench:Hopper-v4/d=2"
    assert page.methods_table("sibench") == "No cell is finished yet."
    add(results, Cell("Hopper-v4", "middle", spec, "bc", 256, 50_000), 150.0)
    add(results, Cell("Hopper-v4", "middle", spec, "tailo", 256, 50_000), 150.0)
    add(results, Cell("Hopper-v4", "middle", spec, "bc", 256, 200_000), 108.0)
    add(results, Cell("Hopper-v4", "middle", spec, "bc", 512, 200_000), 70.0)
    header, _, row = page.methods_table("sibench").splitlines()
    assert header == "| task | set | background | expert | bc | tailo |"
    assert row == "| Hopper-v4 | middle | 100 | 300 | 108 | **150** (50k) |"
    assert page.methods_table("bimodal") == "No cell is finished yet."


def test_methods_are_compared_only_on_one_build_of_a_set(results: Results) -> None:
    add_hopper(results, 50.0)
    cell = Cell("Hopper-v4", "middle", "spec", "vfo_bin", 256, 200_000)
    add(results, cell, 50.0, background=20.0)  # the set that another machine has built
    source = sources.study_source("main.csv")
    compare = source.compare("Hopper-v4", "middle", "vfo_bin", "background", factor=1.1)
    assert compare.holds is True
    assert "1.1 x background 22" in compare.text
    assert source.compare("Hopper-v4", "middle", "background", "bc").holds is True
    assert source.compare("Hopper-v4", "middle", "bc", "vfo_disc").is_missing is False
    for pair in (("bc", "vfo_bin"), ("vfo_bin", "bc")):
        finding = source.compare("Hopper-v4", "middle", *pair)
        assert (finding.holds, finding.is_missing) == (None, True)
        assert "different builds of the set" in finding.text


def test_the_table_of_all_methods_has_a_line_for_each_build(results: Results) -> None:
    spec = "sibench:Hopper-v4/d=2"
    add(results, Cell("Hopper-v4", "middle", spec, "bc", 256, 200_000), 150.0)
    add(results, Cell("Hopper-v4", "middle", spec, "tailo", 256, 200_000), 150.0, background=160.0)
    _, _, first, second = page.methods_table("sibench").splitlines()
    assert first == "| Hopper-v4 | middle | 100 | 300 | **150** |  |"
    assert second == "| Hopper-v4 | middle | 160 | 300 |  | 150 |"
