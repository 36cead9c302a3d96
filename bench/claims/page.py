"""The tables of bench/results/studies.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial

from bench.claims.claims import OF_MODES, TGE_CLAIMS, VFO, Answer, Claim
from bench.claims.sources import COLUMNS, PAPER_SIZE, STUDY_SIZE, method_name, read, sample_of
from bench.studies import main, tge
from bench.studies.cells import KEY, Cell, updates_before
from bench.study_tables import markdown
from fastifo.report.runs import ORDER

VERDICTS = {True: "holds", False: "does not hold", None: "undecided"}
SIGNS = {True: "as claimed", False: "against", None: "undecided"}


@cache
def answers(claim: Claim) -> list[Answer]:
    """What the sources say about a claim."""
    return claim.answers()


def study_answer(claim: Claim) -> Answer | None:
    """The answer of a study whose rows are all there, otherwise None."""
    complete = [a for a in answers(claim) if not a.source.is_small and not a.missing]
    return complete[0] if complete else None


def small_answer(claim: Claim) -> Answer | None:
    """The first answer of a small study that decides the claim, or else that has any row."""
    known = [a for a in answers(claim) if a.source.is_small and a.missing < len(a.findings)]
    decided = [a for a in known if a.holds is not None and not a.missing]
    return next(iter([*decided, *known]), None)


def verdict(claim: Claim) -> str:
    """Holds, does not hold, or open; below the paper's size with the size."""
    answer = study_answer(claim)
    if answer is None or answer.holds is None:
        return "open"
    paper = f"{PAPER_SIZE[0]} x 2, {PAPER_SIZE[1]:,} updates"
    size = "" if answer.source.size == paper else f" at {answer.source.size}"
    return VERDICTS[answer.holds] + size


def small_verdict(claim: Claim) -> str:
    """What the small studies say, with their size."""
    answer = small_answer(claim)
    return "" if answer is None else f"{VERDICTS[answer.holds]} ({answer.source.size})"


def claims_table(claims: Sequence[Claim]) -> str:
    """One line per claim: its verdict, what small studies say, the rows and the figure."""
    lines = []
    for claim in claims:
        known = [a.source for a in answers(claim) if a.missing < len(a.findings)]
        rows = ", ".join(dict.fromkeys(f"[{s.file}]({s.file})" for s in known))
        figures = ", ".join(dict.fromkeys(f"[figure]({s.figure})" for s in known if s.figure))
        lines.append(
            [f"[{claim.number}](#{claim.number.lower()})", claim.text, f"**{verdict(claim)}**",
             small_verdict(claim), rows, figures]
        )  # fmt: skip
    return markdown(
        "| the paper's claim | verdict | at small size | rows | figure", lines, range(6)
    )


def summary() -> str:
    """The verdicts, counted."""
    lines = []
    for name, claims in (("VfO", VFO), ("TGE", TGE_CLAIMS)):
        full = Counter(verdict(claim).partition(" at ")[0] for claim in claims)
        small = Counter(small_verdict(claim).partition(" (")[0] for claim in claims)
        counts = [full[word] for word in ("holds", "does not hold", "open")]
        counts += [small[word] for word in (*VERDICTS.values(), "")]
        lines.append([name, f"{len(claims)}", *map(str, counts)])
    return markdown(
        "paper | claims | hold | do not hold | open | small studies alone: hold | do not hold "
        "| undecided | no rows",
        lines,
        (0,),
    )


def evidence() -> str:
    """The comparisons behind every verdict."""
    parts = []
    for claim in (*VFO, *TGE_CLAIMS):
        anchor = f'<a id="{claim.number.lower()}"></a>**{claim.number}**'
        parts.append(f"{anchor} {claim.text} *Verdict: {verdict(claim)}.*\n")
        lines = [answer_line(answer) + mode_line(claim, answer) for answer in answers(claim)]
        parts.append("\n".join(line for line in lines if line) or "- No rows yet.")
        parts.append("")
    return "\n".join(parts).rstrip()


def answer_line(answer: Answer) -> str:
    """What one source says, sorted by agreement; empty for a small one without rows."""
    source, count = answer.source, len(answer.findings)
    if answer.missing == count:
        return "" if source.is_small else f"- `{source.file}`: no rows yet."
    small = "small: " if source.is_small else ""
    more = f", [more]({source.document})" if source.document else ""
    lines = [f"- `{source.file}` ({small}{source.size}{more})"]
    for outcome, sign in SIGNS.items():
        texts = [f.text for f in answer.findings if f.holds is outcome and not f.is_missing]
        lines += [f"  - *{sign}:* {'; '.join(texts)}"] if texts else []
    if answer.missing:
        lines.append(f"  - *missing:* {answer.missing} of {count} comparisons")
    return "\n".join(lines)


def mode_line(claim: Claim, answer: Answer) -> str:
    """The comparisons of a study that come out otherwise with the policies' modes; else empty."""
    source = answer.source
    if source.is_small or source.file not in OF_MODES or answer.missing == len(answer.findings):
        return ""
    pairs = zip(answer.findings, claim.check(OF_MODES[source.file]()), strict=True)
    changed = [
        f"{mode.text}, {SIGNS[mode.holds]}"
        for sampled, mode in pairs
        if not (sampled.is_missing or mode.is_missing) and mode.holds is not sampled.holds
    ]
    return f"\n  - *otherwise with the mode:* {'; '.join(changed)}" if changed else ""


def progress() -> str:
    """How many cells of each part of the studies are done."""
    lines = []
    for study, cells, name in (
        ("main", main.all_cells(False), "main.csv"), ("tge", tge.all_cells(False), "tge-study.csv"),
    ):  # fmt: skip
        done = {tuple(row[column] for column in KEY) for row in read(name)}
        parts: dict[str, list[Cell]] = {}
        for cell in cells:
            wide = ", 512 x 2" if cell.hidden == 512 else ""
            parts.setdefault(f"{cell.set.partition('=')[0]}{wide}", []).append(cell)
        for part, members in parts.items():
            count = sum(cell.key in done for cell in members)
            left = [cell for cell in members if cell.key not in done]
            hours = sum(cell.minutes(updates_before(cell, cells)) for cell in left) / 60
            lines.append([study, part, f"{count} of {len(members)}", f"{hours:.0f}"])
    return markdown("study | part | cells done | processor hours left", lines, (0, 1))


def methods_table(kind: str, actions: str = "sampled") -> str:
    """Every method's mean return, one line per set of the main study and machine that built it.

    Of each policy at 256 x 2 the one with the most updates, whose number is shown where it is below
    that of the study.  kind: `sibench` or `bimodal`.  actions: sampled, or mode.
    """
    longest: dict[tuple[str, ...], dict[str, str]] = {}  # by build of a set, then method
    for row in read("main.csv"):
        if row["spec"].startswith(kind) and row["iteration"] == "0" and row["hidden"] == "256":
            build = tuple(row[name] for name in ("task", "set", "background", "expert"))
            cell = (*build, method_name(row))
            longest[cell] = max(longest.get(cell, row), row, key=lambda r: int(r["updates"]))
    if not longest:
        return "No cell is finished yet."
    found = dict.fromkeys(cell[-1] for cell in longest)
    methods = sorted(found, key=lambda name: (ORDER.index(name.split()[0]), name))
    lines = []
    for build in dict.fromkeys(cell[:-1] for cell in longest):
        task, which, *returns = build
        bounds = [f"{float(value):.0f}" for value in returns]
        own = {method: longest.get((*build, method)) for method in methods}
        cells = ["" if row is None else method_cell(row, actions) for row in own.values()]
        lines.append([task, which, *bounds, *cells])
    return markdown(" | ".join(["task", "set", "background", "expert", *methods]), lines, (0, 1))


def method_cell(row: dict[str, str], actions: str) -> str:
    """A mean return, bold if its interval is above the background's.  actions: sampled, or mode."""
    sample = sample_of(row, COLUMNS[actions][0])
    text = f"{sample.mean:.0f}"
    text = f"**{text}**" if sample.low > float(row["background_high"]) else text
    updates = int(row["updates"])
    return text if updates >= STUDY_SIZE[1] else f"{text} ({updates // 1000}k)"


def rows_table(name: str) -> str:
    """The rows of a study as they are."""
    lines = []
    for row in read(name):
        iteration = f" {row['iteration']}" if row["iteration"] != "0" else ""
        interval = f"{row['return']} ({row['low']} to {row['high']})"
        lines.append(
            [row["task"], f"{row['set']}{iteration}", row["background"],
             method_name(row), f"{row['hidden']} x 2",
             f"{int(row['updates']):,}", interval, row["per_seed"], row["mode"], row["precision"]]
        )  # fmt: skip
    header = (
        "task | set | background | method | network | updates | sampled | of each seed | mode "
        "| precision"
    )
    return markdown(header, lines, (0, 1, 3, 9)) if lines else "No cell is finished yet."


TABLES: dict[str, Callable[[], str]] = {  # of studies.md, by the name of the marker
    "summary": summary,
    "claims vfo": partial(claims_table, VFO),
    "claims tge": partial(claims_table, TGE_CLAIMS),
    "evidence": evidence,
    "progress": progress,
    "methods sibench": partial(methods_table, "sibench"),
    "methods bimodal": partial(methods_table, "bimodal"),
    "methods sibench mode": partial(methods_table, "sibench", "mode"),
    "methods bimodal mode": partial(methods_table, "bimodal", "mode"),
    "rows main": partial(rows_table, "main.csv"),
    "rows tge": partial(rows_table, "tge-study.csv"),
}
