"""`card.md` of a run: what its policies are, where they come from, and how they do.

It is made from the run folder alone. What the folder does not say is called unknown.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastifo import algos
from fastifo.data.texts import notes_of
from fastifo.engine.summary import differing_fields
from fastifo.envs.returns import Returns, describe_returns
from fastifo.report.summary import RunSummary
from fastifo.utils.files import write_bytes
from fastifo.utils.text import number_texts

UNKNOWN = "unknown"
Rows = list[tuple[str, str]]


def write_card(parts: Sequence[RunSummary], path: Path) -> None:
    """Writes the card of one run.  parts: of its datasets, as `read_runs` gives them.

    Raises OSError naming the file.
    """
    write_bytes(path, card(parts).encode(errors="replace"))


def card(parts: Sequence[RunSummary]) -> str:
    """The card of one run as Markdown.  parts: as in `write_card`."""
    first = parts[0]
    members = [first.config["members"][m] for part in parts for m in part.members]
    configs = [member.get("config", {}) for member in members]
    swept = differing_fields(configs)
    title = f"{first.algorithm} on {first.env_id or 'no environment'}"
    tags = ["imitation-learning", "offline-reinforcement-learning", first.algorithm]
    shared = {name: value for name, value in configs[0].items() if name not in swept}
    sections = [
        f"---\nlibrary_name: fastifo\ntags: [{', '.join(tags)}]\n---\n\n# {title}\n",
        _method(first.algorithm),
        _table("Training", _training(first, members, swept)),
        *(_table(f"Data{_place(parts, part)}", _data(part.dataset)) for part in parts),
        _table("Environment", _environment(parts)),
        *(_returns(part, _place(parts, part)) for part in parts),
        "## Settings\n\nOf every policy"
        + (f", but for {', '.join(swept)}" if swept else "")
        + f":\n\n```json\n{json.dumps(shared, indent=1)}\n```\n",
        "## Use\n\n```python\nimport fastifo\n\n"
        f'policy = fastifo.open_run("{first.folder.name}").policy(member=0)\n'
        'action = policy.act(obs)\npolicy.export("policy.onnx")  # acts without fastifo\n```\n',
    ]
    return "\n".join(section for section in sections if section)


def _place(parts: Sequence[RunSummary], part: RunSummary) -> str:
    """Which dataset a part is of, where there are several."""
    return "" if len(parts) == 1 else f" {parts.index(part)}"


def _table(title: str, rows: Rows) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows]
    return f"## {title}\n\n| | |\n| --- | --- |\n" + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or UNKNOWN


def _method(algorithm: str) -> str:
    """What the method is, and its source, from its file."""
    name, backbone = algos.split(algorithm)
    if name not in algos.ALGORITHMS:
        return f"Method: {algorithm}, which is not part of fastifo.\n"
    learner = algos.find(name, **backbone)
    text = inspect.getdoc(inspect.getmodule(algos.ALGORITHMS[name])) or ""
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    idea = (inspect.getdoc(learner) or "").partition("\n\n")[0]
    stated = f" Source: {' '.join(source[1].split())}" if source else ""
    return f"{' '.join(idea.split())}{stated}\n"


def _training(run: RunSummary, members: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> Rows:
    config = run.config
    seeds = list(dict.fromkeys(str(member["seed"]) for member in members))
    rows = [
        ("policies", str(len(members))),
        ("seeds", ", ".join(seeds)),
        *(
            (name, ", ".join(dict.fromkeys(str(m.get("config", {}).get(name)) for m in members)))
            for name in swept
        ),
        ("updates", f"{config['num_updates']:,}"),
        ("engine, precision", f"{config.get('engine', UNKNOWN)}, {config.get('precision')}"),
        ("device", str(config.get("device", UNKNOWN))),
        ("time in updates", UNKNOWN if run.train_s is None else f"{run.train_s:.0f} s"),
        ("fastifo", f"{config.get('fastifo', UNKNOWN)}, commit {config.get('commit') or UNKNOWN}"),
        ("torch", str(config.get("torch", UNKNOWN))),
    ]
    failed = config.get("failed")
    if failed:
        rows.append(("diverged", ", ".join(f"member {m} by update {u}" for m, u in failed.items())))
    return rows


def _data(dataset: Mapping[str, Any]) -> Rows:
    info = dataset["info"]
    licences = list(dict.fromkeys(_stated(info, "license")))
    sizes = [
        f"{dataset[f'num_{part}_episodes']} {part} episodes"
        for part in ("background", "expert")
        if dataset.get(f"num_{part}_episodes") is not None
    ]
    returns = dataset.get("background_returns")
    rows = [
        ("source", "; ".join(dict.fromkeys(map(_spec_text, _stated(info, "spec"))))),
        ("size", ", ".join(sizes)),
        ("licence", ", ".join(map(str, licences))),
        ("SHA-256", str(dataset["fingerprint"])),
    ]
    if returns:
        low, mean, high = number_texts([min(returns), sum(returns) / len(returns), max(returns)])
        rows.append(("returns of the background", f"mean {mean}, {low} to {high}"))
    return rows + [("changed on reading", note) for note in notes_of(info)]


def _stated(info: Any, name: str) -> Iterator[Any]:
    """Every value under a name in `info` and the infos within it."""
    if isinstance(info, Mapping):
        if info.get(name) not in (None, ""):
            yield info[name]
        for key, value in info.items():
            if key != name:
                yield from _stated(value, name)
    elif isinstance(info, list):
        for value in info:
            yield from _stated(value, name)


def _spec_text(spec: Any) -> str:
    """A spec: a text, a list of them, or the fields of a generated set."""
    if isinstance(spec, Mapping):
        return ", ".join(f"{name}={value}" for name, value in spec.items())
    return " and ".join(map(str, spec)) if isinstance(spec, list) else str(spec)


def _environment(parts: Sequence[RunSummary]) -> Rows:
    """The task, its settings, and the physics that it was played with."""
    config = parts[0].config
    settings = ", ".join(f"{n}={v}" for n, v in (config.get("env_kwargs") or {}).items())
    bounds = config.get("action_bounds") or {}
    low, high = bounds.get("low"), bounds.get("high")
    versions: dict[str, str] = {}
    for part in parts:
        for returns in (part.returns, part.deterministic):
            versions |= {} if returns is None else returns.versions
    return [
        ("name", str(config["env_id"] or "none stated")),
        ("settings", settings or "its own"),
        ("observation", f"{config.get('obs_dim', UNKNOWN)} numbers"),
        (
            "action",
            f"{config.get('action_dim', UNKNOWN)} numbers in "
            + ("[-1, 1]" if low is None else f"{low} to {high}"),
        ),
        ("played with", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _returns(part: RunSummary, place: str) -> str:
    """Returns of each evaluation, and of each policy."""
    evaluations: list[tuple[str, Returns]] = [
        (name, returns)
        for name, returns in (("sampled actions", part.returns), ("mode", part.deterministic))
        if returns is not None
    ]
    if not evaluations:
        return f"## Returns{place}\n\nNot evaluated.\n"
    lines = [f"```\n{describe_returns(returns)}\n```" for _, returns in evaluations]
    header = " | ".join(["policy", "seed", *(name for name, _ in evaluations)])
    rows = [f"| {header} |", "| " + " | ".join(["---"] * (2 + len(evaluations))) + " |"]
    texts = [number_texts(returns.per_member) for _, returns in evaluations]
    for row, (member, seed) in enumerate(zip(part.members, part.seeds, strict=True)):
        rows.append(f"| {member} | {seed} | " + " | ".join(text[row] for text in texts) + " |")
    best = part.best()
    chosen = f"\nBest: {best}. It was chosen by these returns, which are therefore optimistic.\n"
    shown = chosen if best and len(part.members) > 1 else ""
    return f"## Returns{place}\n\n" + "\n\n".join([*lines, "\n".join(rows)]) + f"\n{shown}"
