"""Examples in documents and docstrings: Python code runs, commands parse, and names exist."""

import ast
import doctest
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.algos import ALGORITHMS
from fastifo.cli.main import parse
from helpers import random_dataset

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ROOT / "README.md", ROOT / ".github/CONTRIBUTING.md"
MODULES = sorted(path for path in (ROOT / "fastifo").rglob("*.py") if path.name != "__main__.py")
PLACEHOLDERS = {"$name": "vfo_bin", "<name>": "bc"}


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of one language in a Markdown file."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def documented(path: Path) -> list[Any]:
    """The nodes with docstrings in a source file."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return [node for node in nodes if ast.get_docstring(node)]


DOCSTRINGS = {
    f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}": str(ast.get_docstring(node))
    for path in MODULES
    for node in documented(path)
}
EXAMPLES = {
    name: [example.source for example in doctest.DocTestParser().get_examples(text)]
    for name, text in DOCSTRINGS.items()
    if ">>>" in text
}
COMMANDS = [
    line.partition("#")[0].partition("&&")[0].strip()
    for path in (README, CONTRIBUTING)
    for block in blocks(path, "bash")
    for line in block.replace("\\\n", " ").splitlines()
    if line.split()[:1] == ["fastifo"]
] + [
    line
    for text in DOCSTRINGS.values()
    for line in re.findall(r"^ *Example +(fastifo .*)$", text, re.MULTILINE)
]


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, in an empty folder."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_the_documents_have_examples() -> None:
    assert len(blocks(README, "python")) >= 3
    assert len(blocks(CONTRIBUTING, "python")) == 1
    assert len(EXAMPLES) >= 3
    assert len(COMMANDS) >= 20


SMALLER = {  # numbers of the README's examples -> numbers for a test
    "num_updates=1000": "num_updates=20",
    "EvaluateEvery(500, num_episodes=5)": "EvaluateEvery(10, num_episodes=1)",
    "num_episodes=20": "num_episodes=2",
    "episodes=20,demos=5,bc_updates=200": "episodes=5,demos=5,bc_updates=2",
}


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(blocks(README, "python"))))
def test_python_code_of_the_readme_runs(index: int, tmp_path: Path) -> None:
    code = blocks(README, "python")[index]
    for number, smaller in SMALLER.items():
        code = code.replace(number, smaller)
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_every_smaller_number_replaces_one_of_the_readme() -> None:
    text = README.read_text()
    assert [number for number in SMALLER if number not in text] == []


def test_the_example_of_an_algorithm_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = dict(ALGORITHMS)
    (tmp_path / "rwr.py").write_text(blocks(CONTRIBUTING, "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    try:
        learner = importlib.import_module("rwr").RWR
        fields: dict[str, Any] = {"hidden_sizes": (8,), "batch_size": 8, "progress": False}
        run = fastifo.train(learner, random_dataset(), num_updates=3, **fields)
        assert run.algorithm == "rwr"
        assert not run.failed
    finally:
        ALGORITHMS.clear()
        ALGORITHMS.update(before)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_parses(command: str) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    parse(words[1:])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_of_a_docstring_fit_the_functions_they_call(name: str) -> None:
    module = importlib.import_module(
        name.partition(".py:")[0].replace("/", ".").removesuffix(".__init__")
    )
    known = {"fastifo": fastifo, **vars(fastifo), **vars(module)}
    for source in EXAMPLES[name]:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                function = eval(ast.unparse(node.func), known)
                keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                inspect.signature(function).bind(*node.args, **keywords)


def test_the_example_of_from_episodes_runs() -> None:
    import numpy as np

    (source,) = EXAMPLES["fastifo/data/dataset.py:from_episodes"]
    dataset = eval(source, {"Dataset": fastifo.Dataset, "np": np})
    assert (dataset.obs_dim, dataset.action_dim, dataset.env_id) == (11, 3, "Hopper-v4")


def chains(text: str) -> set[str]:
    """Dotted names below fastifo in a text, without names of files."""
    names = set(re.findall(r"\bfastifo\.[a-zA-Z_][\w.]*[a-zA-Z_]\w*|\bfastifo\.[a-zA-Z]\w+", text))
    return {name for name in names if not name.endswith((".experts", ".fastifo"))}


def test_names_of_the_documents_exist_after_importing_fastifo(tmp_path: Path) -> None:
    text = README.read_text() + "".join(blocks(CONTRIBUTING, "python"))
    names = sorted(name for name in chains(text) if not name.startswith("fastifo.git"))
    assert "fastifo.callbacks.EvaluateEvery" in names
    plain = [
        name
        for name in names
        if f"from {name} " not in text and f"from {name.rpartition('.')[0]} import" not in text
    ]
    result = run_python("import fastifo\n" + "\n".join(plain), tmp_path)
    assert result.returncode == 0, result.stderr


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            fields = getattr(value, "__dataclass_fields__", {})
            if not hasattr(value, part) and part not in fields:
                return False
            value = getattr(value, part, None)
        return True
    return False


@pytest.mark.parametrize("name", sorted(set().union(*map(chains, DOCSTRINGS.values()))))
def test_a_name_in_a_docstring_exists(name: str) -> None:
    assert exists(name) or name.endswith("_")


@pytest.mark.parametrize(
    "package", ["algos", "cli", "data", "engine", "losses", "nn", "ops", "report"]
)
def test_packages_are_there_after_importing_fastifo(package: str, tmp_path: Path) -> None:
    assert getattr(fastifo, package) is importlib.import_module(f"fastifo.{package}")
    assert package in dir(fastifo)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fastifo' has no attribute 'trian'"):
        fastifo.trian  # type: ignore[attr-defined]  # noqa: B018


USER_CODE = """
import fastifo
from fastifo.algos.iql import IQLConfig


def log(run: fastifo.Run, update: int, members: object) -> None:
    print(run.algorithm, update, members)


class Stop:
    every = 10

    def __call__(self, run: fastifo.Run, update: int, members: object) -> bool:
        return update < 100


dataset = fastifo.load("mine.fastifo")
run = fastifo.train(
    "iql",
    dataset,
    seeds=range(3),
    expectile=[0.7, 0.9],
    callbacks=[log, Stop(), fastifo.callbacks.EvaluateEvery(10), lambda run, update, members: None],
)
reveal_type(run.evaluate(5).mean)
reveal_type(IQLConfig().expectile)
reveal_type(IQLConfig().hidden_sizes)
IQLConfig(expectil=0.5)
fastifo.train("iql", dataset, seeds=3)
fastifo.trian("iql", dataset)
"""


@pytest.mark.slow
def test_a_type_checker_knows_fields_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER_CODE)
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*,numpy.*]\nfollow_imports = skip\n")
    package = Path(fastifo.__file__).parents[1]
    # mypy finds an installed package itself, and refuses its folder as a search path.
    path = {} if package.name == "site-packages" else {"MYPYPATH": str(package)}
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "user.py"], cwd=tmp_path,
        env=os.environ | path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in result.stdout.splitlines() if line.startswith("user.py")]
    found = "\n".join(lines).replace("builtins.", "")
    assert lines, result.stdout + result.stderr
    for expected in (
        'Revealed type is "float"',
        'Revealed type is "tuple[int, ...]"',
        'Unexpected keyword argument "expectil" for "IQLConfig"; did you mean "expectile"?',
        'Argument "seeds" to "train" has incompatible type "int"',
        'Module has no attribute "trian"',
    ):
        assert expected in found
    assert found.count("error:") == 3, found
