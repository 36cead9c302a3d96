"""Opens what a user passes as the expert of DAgger."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fastifo.algos.learner import tensors
from fastifo.benchmarks.demonstrations import is_dataset
from fastifo.engine.reopen import open_run
from fastifo.envs.experts import Expert, load_expert
from fastifo.envs.experts.asked import Answer, AskedExpert, answer_of_function
from fastifo.envs.experts.exported import SUFFIXES, read_exported
from fastifo.envs.policy import Policy
from fastifo.envs.registry import describe
from fastifo.envs.spec import EnvSpec
from fastifo.utils.files import sha256_file
from fastifo.utils.imports import check_function, find_named, name_of_function

INCLUDED = "included"  # names the expert that comes with fastifo
KINDS = (
    f"'{INCLUDED}', a run folder, a policy file (.npz, .onnx, .pt2), a function or its name, "
    "'module:function'"
)
ExpertSource = str | Path | Policy | Callable[[Any], Any]


def open_expert(source: ExpertSource, env: EnvSpec) -> AskedExpert:
    """The expert of an environment.

    source: as `expert` in `fastifo.improve` with dagger.
    Raises ValueError or TypeError for something that cannot be asked; FileNotFoundError for a
    missing file; ImportError for a missing package.
    """
    name, answer, identity = _find(source, env)
    return AskedExpert(answer, f"expert {name}", describe(env).action_dim, identity)


def _find(source: Any, env: EnvSpec) -> tuple[str, Answer, str]:
    """Name, answers and identity of an expert."""
    if isinstance(source, Policy):
        return repr(source), *_of_policy(source)
    if callable(source):
        name = name_of_function(source)
        return name, answer_of_function(source), name
    if not isinstance(source, str | Path):
        raise TypeError(f"expert: expected {KINDS}, found {type(source).__name__}")
    return str(source), *_find_named(str(source), Path(source).expanduser(), env)


def _find_named(text: str, path: Path, env: EnvSpec) -> tuple[Answer, str]:
    """Answers and identity of an expert that is named by `text`, perhaps the path of a file."""
    if text == INCLUDED:
        return _of_expert(load_expert(env.id, None, {**env.settings, **env.kwargs}))
    if path.suffix == ".npz":
        return _of_expert(load_expert(env.id, path))
    if path.suffix in SUFFIXES:
        return read_exported(path), sha256_file(path)
    if (path / "config.json").exists():
        return _of_policy(_best_policy(path))
    if is_dataset(text):
        raise ValueError(
            f"expert: expected {KINDS}, found the dataset {text}, which cannot be queried; pass "
            "it as the first data, seed_background (--background)"
        )
    if ":" in text:
        function = check_function(text, *find_named(text))
        return answer_of_function(function), text
    found = "something else" if path.exists() else "nothing there"
    raise FileNotFoundError(f"expert {text}: expected {KINDS}, found {found}")


def env_of(source: Any) -> EnvSpec | None:
    """The environment of an expert that is a run folder; None for others."""
    if isinstance(source, str | Path) and (Path(source).expanduser() / "config.json").exists():
        return open_run(Path(source).expanduser()).require_env()
    return None


def _best_policy(folder: Path) -> Policy:
    """The policy of a run; of several the one with the highest return."""
    run = open_run(folder)
    return run.policy(0 if len(run) == 1 else run.best().member)


def _of_policy(policy: Policy) -> tuple[Answer, str]:
    digest = hashlib.sha256()
    for name, value in tensors(policy.learner).items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return partial(policy.act_rows, noise=None), digest.hexdigest()


def _of_expert(expert: Expert) -> tuple[Answer, str]:
    identity = hashlib.sha256(expert.identity()).hexdigest()
    return partial(expert.act_rows, noise=None), identity
