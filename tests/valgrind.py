"""Runs the native engine under valgrind: `python tests/valgrind.py`, about 15 minutes.

Trains every supported method for a few updates in every precision, on one and two threads, and
prints valgrind's memory errors with the compiled module in their stack. Errors of the interpreter
and of torch are ignored.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
MODULE = "/_C."  # part of the compiled module's path


def train_all() -> None:
    sys.path.insert(0, str(HERE.parent))
    import torch

    from engine.runs import NATIVE, train
    from fastifo.algos import ALGORITHMS
    from helpers import random_dataset

    kinds = itertools.product(NATIVE, ("fp32", "fp32x", "bf16", "fp64"), (1, 2))
    for name, precision, threads in kinds:
        loss = ALGORITHMS[name].native_loss
        if loss is None or precision not in loss.precisions:
            continue
        torch.set_num_threads(threads)
        for seeds in ([0], [0, 1]):  # threads that share a member, and one thread per member
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
    print(f"{len(blocks)} reports by valgrind, {len(ours)} of them with the module in the stack")
    print("\n".join(ours))
    sys.exit(1 if ours else 0)


if __name__ == "__main__":
    main()
