"""Column names that mark, or may mark, the ends of episodes in flat files."""

import re

TASK = "task"  # the task ended with this row
CLOCK = "clock"  # the time limit ended the episode
DONE = "done"  # either, in general
EVERY = "every"  # any end, beside a column of TASK
FIRST = "first"  # the first row of an episode
LENGTHS = "lengths"  # of the episodes
NUMBERS = "numbers"  # the number of the row's episode
MASKS = "masks"  # 0 where the task ended, another number elsewhere (OGBench, jaxrl, Acme, TD3)

NAMES = {  # in lower case, in the singular, with _ for other signs
    TASK: ("terminal", "termination", "terminated", "is_terminal", "is_terminated"),
    CLOCK: (
        "timeout", "truncation", "truncated", "is_truncated", "time_out", "time_limit",
        "timelimit_truncated",
    ),
    DONE: ("done", "is_done", "dones_float", "done_float", "is_last"),
    EVERY: ("episode_terminal", "episode_end", "traj_end", "trajectory_end"),
    FIRST: ("episode_start", "traj_start", "trajectory_start", "is_first"),
    LENGTHS: (
        "episode_length", "episode_len", "ep_length", "ep_len", "trajectory_length",
        "trajectory_len", "traj_length", "traj_len", "path_length", "length",
    ),
    NUMBERS: (
        "episode_id", "episode_index", "episode_idx", "episode_number", "episode_num", "eps_id",
        "ep_id", "trajectory_id", "trajectory_index", "trajectory_idx", "traj_id", "traj_index",
        "traj_idx",
    ),
    MASKS: ("mask", "discount", "nonterminal", "not_terminal", "not_done"),
}  # fmt: skip
ROLES = {name: role for role, names in NAMES.items() for name in names}
MAY_END_TASK = re.compile(r"term|done|discount|absorb|dead|died|alive|crash|fall|fell|fail")
MAY_END_EPISODE = re.compile(
    r"trunc|time_?out|limit|reset|(^|_)(end|last|final|first|start|begin)(_|s?$)"
)


def role_of(name: str) -> str | None:
    """What a column says of the ends of episodes, by its name; None: nothing that is known."""
    word = _plain(name)
    return ROLES.get(word) or ROLES.get(word.removesuffix("s"))


def may_end_task(name: str) -> bool:
    """Whether a column that `role_of` does not know may mark ends of the task."""
    return MAY_END_TASK.search(_plain(name)) is not None


def may_end_episode(name: str) -> bool:
    """Whether a column that `role_of` does not know may mark ends of episodes."""
    return may_end_task(name) or MAY_END_EPISODE.search(_plain(name)) is not None


def _plain(name: str) -> str:
    """The name in lower case, with _ for other signs, without LeRobot's prefix `next.`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("next_")


def in_order(names: list[str]) -> list[str]:
    """The names that `role_of` knows, by their roles, and behind them those that may mark ends."""
    known = [n for role in NAMES for n in sorted(names) if role_of(n) == role]
    return known + sorted(n for n in names if not role_of(n) and may_end_episode(n))
