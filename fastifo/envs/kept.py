"""Environments that stay open between rollouts.

Worker processes of slow simulators take seconds to start. Evaluations during training, and those of
a study, play the same environment again and again.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from fastifo.envs.spec import EnvSpec
from fastifo.envs.vector import Backend, VectorEnv

SPLIT_SLOTS = 200  # fewer slots play in one pool: two halves would cost more steps than they save

Kept = dict[str, list[VectorEnv]]  # at most one entry: what was played last
_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextlib.contextmanager
def keep_environments() -> Iterator[None]:
    """Inside this context, the environments of a rollout stay open for the next one.

    They are used again by a rollout of the same environment with as many episodes, and closed when
    another one starts, when a rollout fails, and at the end of the outermost context. Results do
    not depend on it.
    """
    if _kept.get() is not None:
        yield
        return
    kept: Kept = {}
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        _close(kept)


@contextlib.contextmanager
def open_vectors(
    backend: Backend, spec: EnvSpec, slots: int, num_workers: int
) -> Iterator[list[VectorEnv]]:
    """One vector of environments, or two for many slots that step on their own.

    The policies of one half act while the environments of the other half step.
    slots: most slots of one start.  num_workers: as in `rollout`.
    """
    count = 2 if backend.has_async_steps and slots >= SPLIT_SLOTS else 1
    # No more threads than this process was given: next to another process that trains, every
    # hand-over to a further thread would wait for a time slice.
    threads = torch.get_num_threads()
    kept = _kept.get()
    stays = kept is not None and not backend.has_async_steps  # those of EnvPool start at once
    opened: Kept = kept if kept is not None and stays else {}
    key = repr((type(backend).__name__, spec, slots, threads, num_workers))
    if key not in opened:
        _close(opened)
    vectors = opened.setdefault(key, [])
    try:
        while len(vectors) < count:
            vectors.append(backend.make(spec, slots, threads=threads, workers=num_workers))
        yield vectors
    except BaseException:
        _close(opened)  # some of their steps may be under way
        raise
    if not stays:
        _close(opened)


def _close(opened: Kept) -> None:
    for vectors in opened.values():
        for vector in vectors:
            vector.close()
    opened.clear()
