"""Fuzzes the readers with damaged files: `python tests/fuzz.py --count 10000`.

For each format a valid file is damaged in many ways (flipped bits, truncation, blocks zeroed or
copied, huge lengths, replaced datasets) and loaded. A file may be refused by an error that names
it, or load with the same values. Formats without checksums may also load with other values, which
is counted. Everything else, and a load that takes more than 5 s, is a failure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FORMATS = (
    "pack", "d4rl", "minari", "robomimic", "npz", "d3rlpy", "maniskill", "csv", "parquet", "arrow",
)  # fmt: skip
HDF5 = ("d4rl", "minari", "robomimic", "d3rlpy", "maniskill")
SPECS = {"arrow": "parquet"}  # kind of spec, where it is not the format's name
LIMIT_S = 10.0
STEPS, OBS_DIM, ACTION_DIM = 20, 4, 2


def _columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((STEPS + 1, OBS_DIM)).astype(np.float32)
    last = np.arange(STEPS) == STEPS - 1
    return {
        "observations": rows[:-1],
        "next_observations": rows[1:],
        "actions": rng.uniform(-1, 1, (STEPS, ACTION_DIM)).astype(np.float32),
        "rewards": rng.standard_normal(STEPS).astype(np.float32),
        "terminals": last,
        "timeouts": ~last & False,
    }


def write(kind: str, path: Path) -> None:
    """Writes a small valid file of the given format."""
    c = _columns()
    all_obs = np.concatenate([c["observations"], c["next_observations"][-1:]])
    if kind == "pack":
        from fastifo import Dataset

        episode = {"obs": all_obs, "action": c["actions"], "reward": c["rewards"], "terminal": True}
        Dataset.from_episodes([episode], [episode], "Hopper-v4").save(path)
    elif kind == "npz":
        np.savez_compressed(path, **c)  # type: ignore[arg-type]
    elif kind in ("csv", "parquet", "arrow"):
        _write_table(kind, path, c)
    else:
        with h5py.File(path, "w") as file:
            if kind == "d4rl":
                for name, value in c.items():
                    file.create_dataset(name, data=value, compression="gzip")
            elif kind == "d3rlpy":
                for name in ("observations", "actions", "rewards"):
                    file[f"{name}_0"] = c[name]
                file["terminated_0"] = True
            elif kind == "maniskill":
                group = file.create_group("traj_0")
                group["obs"], group["actions"], group["rewards"] = (
                    all_obs, c["actions"], c["rewards"],
                )  # fmt: skip
                group["terminated"] = c["terminals"]
            elif kind == "minari":
                group = file.create_group("episode_0")
                group["observations"], group["actions"] = all_obs, c["actions"]
                group["rewards"] = c["rewards"].astype("f8")
                group["terminations"], group["truncations"] = c["terminals"], c["timeouts"]
            else:
                demo = file.create_group("data/demo_0")
                demo["actions"], demo["rewards"] = c["actions"], c["rewards"]
                demo["dones"] = c["terminals"].astype("i8")
                demo["obs/object"], demo["next_obs/object"] = (
                    c["observations"], c["next_observations"],
                )  # fmt: skip


def _write_table(kind: str, path: Path, columns: dict[str, np.ndarray]) -> None:
    flat = {
        f"{name}_{i}" if values.ndim > 1 else name: part
        for name, values in columns.items()
        for i, part in enumerate(values.T if values.ndim > 1 else [values])
    }
    if kind == "csv":
        lines = [",".join(flat)]
        lines += [",".join(map(str, row)) for row in zip(*flat.values(), strict=True)]
        path.write_text("\n".join(lines) + "\n")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(flat)
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
            out.write_table(table)


def mutants(kind: str, folder: Path, count: int, seed: int) -> Iterator[tuple[Path, str]]:
    """Yields a damaged file and the kind of damage; each file replaces the previous one."""
    rng = np.random.default_rng(seed)
    path = folder / ("main_data.hdf5" if kind == "minari" else f"valid.{kind}")
    if kind == "npz":
        path = folder / "valid.npz"
    write(kind, path)
    valid = path.read_bytes()
    bad = folder / f"bad-{path.name}"
    ways = ["flip", "flips", "cut", "zero", "copy", "huge", "insert"]
    if kind in HDF5:
        ways.append("replace")
    for i in range(count):
        way = ways[i % len(ways)]
        content = bytearray(valid)
        at = int(rng.integers(len(content)))
        size = int(rng.integers(1, 200))
        if way in ("flip", "flips"):
            for index in rng.integers(len(content), size=1 if way == "flip" else 20):
                content[index] ^= 1 << int(rng.integers(8))
        elif way == "cut":
            del content[at:]
        elif way == "zero":
            content[at : at + size] = bytes(len(content[at : at + size]))
        elif way == "copy":
            source = int(rng.integers(len(content)))
            content[at : at + size] = content[source : source + size]
        elif way == "huge":
            content[at : at + 8] = int(rng.choice([2**31, 2**40, 2**63 - 1])).to_bytes(8, "little")
        elif way == "insert":
            content[at:at] = rng.bytes(size)
        bad.write_bytes(content)
        if way == "replace":
            _replace(bad, rng)
        yield bad, way


def _replace(path: Path, rng: np.random.Generator) -> None:
    """Replaces one dataset by one of another shape, type or value, or by a link."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        name = str(rng.choice(sorted(names)))
        value = np.atleast_1d(file[name][()])
        del file[name]
        choices: list[Any] = [
            value[:-1], value[..., None], value.T, value.astype("f8") * np.nan, value[:0],
            np.array([b"text"] * len(value)), value.astype("c8"), np.float32(1.0),
            h5py.ExternalLink("other.hdf5", "/x"), h5py.SoftLink("/" + name), value * 0 + 3,
        ]  # fmt: skip
        file[name] = choices[int(rng.integers(len(choices)))]


def outcome(kind: str, path: Path) -> str:
    """What loading did: "refused", "same" or "changed" values, or a description of the failure."""
    from fastifo import load

    started = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = load(path if kind == "pack" else f"{SPECS.get(kind, kind)}:{path}")
    except (ValueError, FileNotFoundError) as error:
        result = (
            "refused" if path.name in str(error) else f"refused without naming the file: {error}"
        )
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    else:
        valid = path.with_name(path.name.removeprefix("bad-"))
        expected = load(valid if kind == "pack" else f"{SPECS.get(kind, kind)}:{valid}")
        result = "same" if dataset.fingerprint() == expected.fingerprint() else "changed"
    return result if time.monotonic() - started < LIMIT_S else f"over {LIMIT_S} s, {result}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="damaged files per format")
    parser.add_argument("--seed", type=int, default=0, help="of the random damage")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    options = parser.parse_args()
    failed = False
    print("| format | files | refused | same values | other values | failures | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in options.formats:
        started = time.monotonic()
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for path, way in mutants(kind, Path(folder), options.count, options.seed):
                result = outcome(kind, path)
                counts[result] += 1
                if result not in ("refused", "same", "changed"):
                    print(f"{kind}, {way}: {result}", file=sys.stderr)
        failures = options.count - sum(counts[name] for name in ("refused", "same", "changed"))
        failed |= failures > 0 or (kind == "pack" and counts["changed"] > 0)
        print(
            f"| {kind} | {options.count} | {counts['refused']} | {counts['same']} | "
            f"{counts['changed']} | {failures} | {time.monotonic() - started:.0f} |",
            flush=True,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
