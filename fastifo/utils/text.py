"""Text for error messages and tables."""

import ast
import contextlib
import difflib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

SYNONYMS: dict[str, tuple[str, ...]] = {  # names in other libraries -> ours
    "lr": ("learning_rate",),
    "actor_lr": ("policy_learning_rate", "learning_rate"),
    "policy_lr": ("policy_learning_rate", "learning_rate"),
    "critic_lr": ("critic_learning_rate", "learning_rate"),
    "seed": ("seeds", "seed"),
    "random_state": ("seeds", "seed"),
    "steps": ("num_updates",),
    "num_steps": ("num_updates",),
    "max_steps": ("num_updates",),
    "n_steps": ("num_updates",),
    "n_updates": ("num_updates",),
    "total_timesteps": ("num_updates",),
    "max_timesteps": ("num_updates",),
    "gradient_steps": ("num_updates",),
    "iterations": ("num_updates",),
    "epochs": ("num_updates",),
    "bs": ("batch_size",),
    "batch": ("batch_size",),
    "wd": ("weight_decay",),
    "hidden": ("hidden_sizes",),
    "hidden_dim": ("hidden_sizes",),
    "hidden_dims": ("hidden_sizes",),
    "layers": ("hidden_sizes",),
    "net_arch": ("hidden_sizes",),
    "discount": ("gamma",),
    "tau": ("expectile", "polyak"),
    "beta": ("inverse_temperature", "temperature"),
    "dtype": ("precision",),
    "backend": ("engine",),
    "output": ("out",),
    "output_dir": ("out",),
    "log_dir": ("out",),
    "logdir": ("out",),
    "save_dir": ("out",),
    "save_path": ("out",),
    "checkpoint_dir": ("out",),
    "checkpoints_path": ("out",),
    "folder": ("out",),
    "path": ("out",),
    "verbose": ("progress",),
    "n_epochs": ("num_updates",),
    "env": ("env_id",),
    "env_name": ("env_id", "env"),
    "eval_every": ("eval_every", "callbacks"),
    "eval_interval": ("eval_every", "callbacks"),
    "n_episodes": ("num_episodes", "eval_episodes", "episodes"),
    "n_eval_episodes": ("num_episodes", "eval_episodes", "episodes"),
    "eval_freq": ("eval_every", "callbacks"),
    "num_episodes": ("num_episodes", "eval_episodes", "episodes"),
    "td3_bc": ("rebrac",),
    "td3bc": ("rebrac",),
    "behavior_cloning": ("bc",),
    "behaviour_cloning": ("bc",),
    "behavioral_cloning": ("bc",),
    "percent_bc": ("bc",),
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggestion for an unknown name: the known name of the same thing, the closest, or a list."""
    known = list(known)
    for synonym in SYNONYMS.get(re.sub(r"[-+ ]", "_", name.lower()), ()):
        if synonym in known:
            return f"did you mean {synonym!r}?"
    plain = {other.lower().replace("-", "_"): other for other in reversed(known)}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), plain, n=1, cutoff=0.5)
    if close:
        return f"did you mean {plain[close[0]]!r}?"
    few = sorted(known)[:20]
    return "known: " + ", ".join(few) + (", ..." if len(known) > len(few) else "")


def counted(number: int, noun: str) -> str:
    """A number and what it counts, as in 1 episode or 1,000 episodes."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def parse_value(text: str) -> Any:
    """The value of a setting in a spec or a flag: JSON, a Python literal, or the text itself."""
    for parse in (_parse_json, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return parse(text)
    return text


def _parse_json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: text)


def number_texts(values: Iterable[float], spread: tuple[float, float] | None = None) -> list[str]:
    """Numbers with the same decimals, as many as their size asks for; see `decimals_for`."""
    values = list(values)
    digits = decimals_for(values, [] if spread is None else [spread[1] - spread[0]])
    return [f"{value:.{digits}f}" for value in values]


def leaves_of(key: str, leaves: Iterable[str]) -> list[str]:
    """The leaves that a key names, sorted: itself, or all below it, as "a/b" below "a"."""
    return sorted(leaf for leaf in leaves if leaf == key or leaf.startswith(f"{key}/"))


def decimals_for(values: Iterable[float], spreads: Iterable[float] = ()) -> int:
    """Decimals that show three digits of the largest value, or two where it is below 1.

    Two more at most where a spread would not be visible otherwise: 1000 to 1000.4 has one.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0.0:
        return 1
    power = math.floor(math.log10(largest))
    digits = min(6, max(0, 2 - power) if power >= 0 else 1 - power)
    visible = [s for s in spreads if math.isfinite(s) and s > 1e-6 * largest]
    needed = -math.floor(math.log10(min(visible))) if visible else 0
    return max(digits, min(needed, digits + 2))


def license_of(card: str) -> str | None:
    """The licence that a dataset card states in the header of its Markdown; None without one."""
    header = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    stated = re.search(r"^license:\s*(\S.*)$", header[1], re.MULTILINE) if header else None
    return stated[1].strip().strip("\"'") if stated else None
