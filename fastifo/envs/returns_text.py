"""What `print` shows of the returns of evaluated policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastifo.envs.scores import score_remark
from fastifo.utils.text import counted, number_texts

if TYPE_CHECKING:
    from fastifo.envs.returns import Returns


def describe_returns(returns: Returns) -> str:
    """The text of `print(returns)`: a line, or for a sweep one line per setting and the best."""
    parts = returns.by_setting()
    kind = "mode" if returns.deterministic else "sampled"
    remark = score_remark(returns.env_id, returns.reference)
    last = [f"  {remark}"] if remark else []
    if len(parts) == 1:
        return "\n".join([f"{returns.env_id}: return {_describe_setting(returns, kind)}", *last])
    width = max(map(len, parts))
    lines = [f"{returns.env_id}: return of each setting ({kind})"]
    lines += [f"  {name:{width}}  {_describe_setting(part)}" for name, part in parts.items()]
    if not np.isnan(returns.per_member).all():
        best = int(np.nanargmax(returns.per_member))
        seed = f", seed={returns.seeds[best]}" if returns.seeds else ""
        (mean,) = number_texts([returns.per_member[best]])
        lines.append(f"  best: member {best}{seed}, {returns.settings[best]}, return {mean}")
    return "\n".join(lines + last)


def _describe_setting(returns: Returns, kind: str = "") -> str:
    """Mean, interval, sizes and score of members that differ in their seeds only."""
    if np.isnan(returns.returns).all():
        return f"none: {counted(len(returns), 'member')} diverged"
    members = returns.per_member
    texts = number_texts([returns.mean, *returns.interval, *members], spread=returns.interval)
    mean, low, high = texts[:3]
    name = "D4RL score" if returns.reference is None else "score"
    score = "" if returns.score is None else f", {name} {returns.score:.1f}"
    unit, when = ("episode", "") if returns.lengths.any() else ("evaluation", " in training")
    size = f"{counted(len(members), 'member')} x {counted(returns.returns.shape[1], unit)}{when}"
    success = ""
    if returns.success is not None and returns.success_interval is not None:
        rates = returns.success, *returns.success_interval
        success = ", success {:.0%} [{:.0%}, {:.0%}]".format(*rates)
    lost = f", {counted(returns.num_lost, 'episode')} lost" if returns.num_lost else ""
    seeds = f"; by seed {' '.join(texts[3:])}" if len(members) > 1 else ""
    size += f" ({kind})" if kind else ""
    return f"{mean} [{low}, {high}] over {size}{score}{success}{lost}{seeds}"
