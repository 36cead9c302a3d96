"""D4RL's tasks: environments, time limits and paths of their files.

Source: D4RL (Fu et al. 2020, arXiv:2004.07219), the registrations and `infos.py` of its package.
"""

import re
from typing import NamedTuple

ENVIRONMENTS = {  # first word of D4RL's name -> EnvPool's environment with the same observations
    "halfcheetah": "HalfCheetah-v4",
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "ant": "Ant-v3",
    "pen": "AdroitHandPen-v1",
    "door": "AdroitHandDoor-v1",
    "hammer": "AdroitHandHammer-v1",
    "relocate": "AdroitHandRelocate-v1",
}
ADROIT = ("pen", "door", "hammer", "relocate")
GYM_KINDS = (
    "random", "medium", "expert", "mixed", "medium_replay", "full_replay", "medium_expert",
    "random_expert",
)  # fmt: skip
NAME = re.compile(r"(?P<env>[a-z0-9]+)[-_](?P<kind>[a-z0-9_-]+?)-v(?P<version>\d+)")
MAZE2D_STEPS = {  # version -> maze -> time limit
    0: {"open": 150, "umaze": 150, "medium": 250, "large": 600},
    1: {"open": 150, "umaze": 300, "medium": 600, "large": 800},
}
ANTMAZE_STEPS = {
    "umaze": 700, "u_maze": 700, "medium": 1000, "big_maze": 1000, "large": 1000,
    "hardest_maze": 1000, "ultra": 2000,
}  # fmt: skip
PATTERNS = {  # of file names, lower case, with _ for -
    "gym": re.compile(
        rf"(halfcheetah|hopper|walker2d|walker|ant)_({'|'.join(GYM_KINDS)})(_v\d+)?$"
    ),
    "adroit": re.compile(
        r"(pen|door|hammer|relocate)_((human|cloned|expert)_v\d+|v0_(demos|expert)_clipped"
        r"|demos_v0_bc_combined)$"
    ),
    "maze2d": re.compile(
        r"maze2d_(?:eval_)?(open|umaze|medium|large)(?:_sparse|_dense)?(?:_v(\d))?$"
    ),
    "antmaze": re.compile(
        r"ant_?maze_(?:eval_)?(umaze|u_maze|medium|big_maze|large|hardest_maze|ultra)"
        r"(_eval)?((_noisy_\w+)|(_play|_diverse)?_v\d+)$"
    ),
    "kitchen": re.compile(r"kitchen_(complete|partial|mixed)_v\d+|(mini_)?kitchen_microwave_\w+"),
}


class Task(NamedTuple):
    """What a file's name says about its task."""

    env_id: str | None = None  # EnvPool's name
    max_steps: int = 0  # D4RL's time limit; 0: unknown


def task_of(stem: str) -> Task:
    """The task of a file with this name, without suffix; empty if it is none of D4RL's."""
    match = NAME.match(stem)
    env_id = ENVIRONMENTS.get(match["env"]) if match else None
    name = stem.lower().replace("-", "_")
    if match := PATTERNS["gym"].match(name):
        word = "walker2d" if match[1] == "walker" else match[1]
        return Task(ENVIRONMENTS[word], 1000)
    if match := PATTERNS["adroit"].match(name):
        return Task(ENVIRONMENTS[match[1]], 100 if match[1] == "pen" else 200)
    if match := PATTERNS["maze2d"].match(name):
        return Task(None, MAZE2D_STEPS[min(int(match[2] or 0), 1)][match[1]])
    if match := PATTERNS["antmaze"].match(name):
        return Task(None, ANTMAZE_STEPS[match[1]])
    if PATTERNS["kitchen"].fullmatch(name):
        return Task(None, 280)
    return Task(env_id)


def is_name(text: str) -> bool:
    """Whether this may be the name of a dataset, as in hopper-medium-v2, and not a file."""
    return NAME.fullmatch(text) is not None


def path_of(name: str) -> str | None:
    """Path below D4RL's host of a dataset by name, as in hopper-medium-v2; None if unknown."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    env, kind, version = match["env"], match["kind"], int(match["version"])
    if env in ADROIT:
        path = _adroit(env, kind, version)
    elif env in ENVIRONMENTS:
        path = _gym(env, kind.replace("-", "_"), version)
    else:
        path = OTHER_PATHS[env](kind, version) if env in OTHER_PATHS else None
    return None if path is None else f"{path}.hdf5"


def _gym(env: str, kind: str, version: int) -> str | None:
    if kind not in GYM_KINDS or kind == "mixed":
        return None
    if version > 0:
        return f"gym_mujoco_v{version}/{env}_{kind}-v{version}"
    if kind == "full_replay":
        return None  # since v1
    env = "walker" if (env, kind) == ("walker2d", "medium_replay") else env
    return f"gym_mujoco/{env}_{'mixed' if kind == 'medium_replay' else kind}"


def _adroit(env: str, kind: str, version: int) -> str | None:
    if version > 0:
        return f"hand_dapg_v{version}/{env}-{kind}-v{version}"
    file = {
        "human": f"{env}-v0_demos_clipped",
        "cloned": f"{env}-demos-v0-bc-combined",
        "expert": f"{env}-v0_expert_clipped",
    }.get(kind)
    return None if file is None else f"hand_dapg/{file}"


def _maze2d(kind: str, version: int) -> str | None:
    maze, dense = kind.removesuffix("-dense"), kind.endswith("-dense")
    size = maze.removeprefix("eval-")
    if size not in MAZE2D_STEPS[1] or version > 1 or (size == "open" and version > 0):
        return None
    suffix = f"-v{version}" if version else ""
    return f"maze2d/maze2d-{maze}-{'dense' if dense else 'sparse'}{suffix}"


def _antmaze(kind: str, version: int) -> str | None:
    maze, _, way = kind.partition("-")
    words = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}
    ways = {"", "diverse"} if maze == "umaze" else {"play", "diverse"}
    if maze not in words or way not in ways:
        return None
    start, goal = way != "", way == "diverse"  # from several starts, to several goals
    tail = f"noisy_multistart_{start}_multigoal_{goal}_sparse"
    folder = {0: "ant_maze_new", 1: "ant_maze_v1", 2: "ant_maze_v2"}.get(version)
    if folder is None:
        return None
    word = maze if version == 1 else words[maze]
    return f"{folder}/Ant_maze_{word}_{tail}{'_fixed' if version == 2 else ''}"


def _kitchen(kind: str, version: int) -> str | None:
    file = {
        "complete": "mini_kitchen_microwave_kettle_light_slider",
        "partial": "kitchen_microwave_kettle_light_slider",
        "mixed": "kitchen_microwave_kettle_bottomburner_light",
    }.get(kind)
    return None if file is None or version else f"kitchen/{file}-v0"


OTHER_PATHS = {"maze2d": _maze2d, "antmaze": _antmaze, "kitchen": _kitchen}
