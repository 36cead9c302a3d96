"""The table of a sweep: a line for every member, best first, and what choosing has cost."""

from fastifo.engine.summary import setting_text
from fastifo.report.tables import Table
from fastifo.studies.sweep_results import (
    Sweep,
    SweepMember,
    budget_text,
    final_text,
    ranked_members,
)
from fastifo.utils.text import number_texts

HEADER = (
    "setting", "seed", "return", "95 % interval", "updates", "returns at rungs", "evaluations",
    "status",
)  # fmt: skip


def sweep_table(sweep: Sweep) -> Table:
    """A line for every member that was evaluated to choose, and one for each final member."""
    kind = "the mode" if sweep.deterministic else "sampled actions"
    rows = [_row(member, "0") for member in sweep.final]
    rows += [_row(member, str(len(member.rungs))) for member in ranked_members(sweep.members)]
    notes = [f"Returns of {kind}. {budget_text(sweep).capitalize()}."]
    if sweep.final:
        notes.append(f"{final_text(sweep).capitalize()}.")
    return Table(f"{sweep.env_id}: {sweep.algorithm}, members of a sweep", HEADER, rows, notes)


def _row(member: SweepMember, evaluations: str) -> list[str]:
    last = member.last
    mean, interval = "", ""
    if last.mean is not None and last.low is not None and last.high is not None:
        mean, low, high = number_texts([last.mean, last.low, last.high])
        interval = f"{low} to {high}"
    rungs = ["-" if r.mean is None else number_texts([r.mean])[0] for r in member.rungs]
    return [
        setting_text(last.values), str(member.seed), mean, interval, f"{last.num_updates:,}",
        " ".join(rungs), evaluations, member.status,
    ]  # fmt: skip
