"""The native engine under valgrind: `python tests/valgrind.py`, a quarter of an hour.

Trains every method it serves for a few updates in every precision, on one and two threads, and
shows what valgrind says of memory where the compiled module stands in the stack. The interpreter
and torch are not judged.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
MODULE = "/_C."  # in the name of the compiled module


def train_all() -> None:
    sys.path.insert(0, str(HERE.parent))
    import torch

    from engine.runs import NATIVE, train
    from helpers import random_dataset

    kinds = itertools.product(NATIVE, ("fp32", "fp32x", "bf16", "fp64"), (1, 2))
    for name, precision, threads in kinds:
        if name == "iql" and precision in ("fp32x", "bf16"):
            continue
        torch.set_num_threads(threads)
        for seeds in ([0], [0, 1]):  # lanes of one member, and one thread for each
            train(
                name, random_dataset(), 3, seeds=seeds, engine="native", precision=precision,
                hidden_sizes=(40, 24), batch_size=20,
            )  # fmt: skip
        print(name, precision, f"{threads} threads", flush=True)


def main() -> None:
    if sys.argv[1:] == ["train"]:
        train_all()
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = ["valgrind", "-q", f"--log-file={log}", sys.executable, str(HERE), "train"]
        environment = os.environ | {"PYTHONMALLOC": "malloc", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True)
        blocks = log.read_text().split("== \n")
    ours = [block for block in blocks if MODULE in block]
    print(f"{len(blocks)} blocks in valgrind's log, {len(ours)} of them through the module")
    print("\n".join(ours))
    sys.exit(1 if ours else 0)


if __name__ == "__main__":
    main()
