"""Damaged rows of metrics, embeddings and distances are noticed."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.report.report import report
from helpers import SMALL_UNET, random_dataset
from reliability.damage import FIELDS, make_run
from support import contents

TGE: dict[str, Any] = {k: v for k, v in FIELDS.items() if k != "num_bins"} | SMALL_UNET


def train_tge(folder: Path, num_updates: int) -> fastifo.Run:
    return fastifo.train(
        "tge", random_dataset(), num_updates=num_updates, diffusion_updates=4, out=folder, **TGE
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("removed", "damaged: expected .* bytes or more, found nothing there"),
        ("emptied", "damaged: expected .* bytes or more, found 0 bytes"),
        ("cut", "damaged: expected .* bytes or more, found"),
        ("zeros", "damaged: its rows differ"),
        ("digit", "damaged: its rows differ"),
        ("swapped", "damaged: its rows differ"),
    ],
)
def test_damaged_metrics_are_noticed(run: Path, damage: str, message: str) -> None:
    path = run / "metrics.jsonl"
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        lines = content.splitlines(keepends=True)
        path.write_bytes(
            {
                "emptied": b"",
                "cut": content[: len(content) // 2],
                "zeros": bytes(50) + content[50:],
                "digit": content.replace(b'"update": 2', b'"update": 3', 1),
                "swapped": b"".join([*lines[1:], lines[0]]),
            }[damage]
        )
    before = contents(run)
    attempts: list[Callable[[], Any]] = [lambda: make_run(run, 20), lambda: report(run)]
    for attempt in attempts:
        with pytest.raises(ValueError, match=rf"metrics\.jsonl: {message}"):
            attempt()
    assert contents(run) == before


def test_rows_after_the_last_checkpoint_are_no_damage(run: Path) -> None:
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"update": 11, "half a r')
    make_run(run, 20)
    assert b"half" not in (run / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("kind", ["distances-*.npy", "embeddings-background-*.npy"])
def test_a_flipped_byte_of_embeddings_or_distances_is_noticed(tmp_path: Path, kind: str) -> None:
    train_tge(tmp_path / "run", 5)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    train_tge(tmp_path / "whole", 10)
    expected = (tmp_path / "whole/checkpoint/0-train-000000010.safetensors").read_bytes()
    if kind.startswith("embeddings"):
        for path in (tmp_path / "run").glob("distances-*"):
            path.unlink()
    (path,) = (tmp_path / "run").glob(kind)
    content, chance, refused = path.read_bytes(), random.Random(1), 0
    size = len(content)
    damaged = [(chance.randrange(size), 1 << chance.randrange(8)) for _ in range(12)]
    for index, bits in [*damaged, (size - 1, 1), (size - 40, 1)]:
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "run", tmp_path / "bad")
        flipped = bytearray(content)
        flipped[index] ^= bits
        (tmp_path / "bad" / path.name).write_bytes(flipped)
        try:
            train_tge(tmp_path / "bad", 10)
        except ValueError as error:
            refused += f"{path.name}: damaged" in str(error)
            continue
        weights = (tmp_path / "bad/checkpoint/0-train-000000010.safetensors").read_bytes()
        assert weights == expected  # computed again
    assert refused >= 8
