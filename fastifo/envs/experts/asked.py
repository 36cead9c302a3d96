"""Experts that can be asked what they would do, and their mixture with a learner.

Source: DAgger (Ross, Gordon and Bagnell 2011, arXiv:1011.0686).
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fastifo.data.streams import purpose, uniform
from fastifo.envs.act import BLOCK_ROWS, Actor

Answer = Callable[[Tensor], Any]  # observations [N, D] -> actions [N, A]


class AskedExpert:
    """The action of an expert in any observation, without noise.  Implements `Actor`."""

    def __init__(self, answer: Answer, name: str, action_dim: int, identity: str) -> None:
        """answer: called with float32 observations on the CPU; actions are in the environment's
        units.

        name: for messages.  action_dim: of the environment.
        identity: text that changes when the expert's actions do, as far as that is known.
        """
        self.answer, self.name, self.action_dim = answer, name, action_dim
        self.identity = identity
        self.seed = torch.zeros(1, dtype=torch.int64, device="cpu")

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """[rows, 0]: the expert is deterministic."""
        return torch.empty(rows, 0, device="cpu")

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, A] float32 for observations [B, D].

        noise: as from `noise`; None asks about made-up observations, where any number is right.
        Raises ValueError for an answer of another shape, or one that is not finite; TypeError for
        one that is no array of numbers.
        """
        obs = obs.float().cpu()
        try:
            answer = self.answer(obs)
        except RuntimeError as error:  # torch's, of a product of matrices that do not fit
            raise ValueError(
                f"{self.name}: does not accept observations {list(obs.shape)} ({error}); name an "
                "expert of this environment"
            ) from None
        action = self._as_tensor(answer)
        expected = [len(obs), self.action_dim]
        if list(action.shape) != expected:
            raise ValueError(
                f"{self.name}: expected actions {expected} for observations {list(obs.shape)}, "
                f"found {list(action.shape)}; return one row for each observation"
            )
        bad = torch.nonzero(~action.isfinite())
        if noise is not None and len(bad):
            row, column = bad[0].tolist()
            raise ValueError(
                f"{self.name}: expected finite actions, found {float(action[row, column])} in "
                f"dimension {column} for the observation {obs[row].tolist()}"
            )
        return action

    def ask(self, obs: Tensor) -> Tensor:
        """Its actions for any number of observations [N, D].  Raises as `act_rows`."""
        return torch.cat(
            [self.act_rows(x, self.noise(0, 0, len(x))) for x in obs.split(BLOCK_ROWS)]
        )

    def _as_tensor(self, answer: Any) -> Tensor:
        if isinstance(answer, Tensor):
            return answer.detach().float().cpu()
        found = type(answer).__name__
        try:
            array = np.asarray(answer)
            if array.dtype.kind != "c":  # a cast would drop the imaginary parts
                with np.errstate(over="ignore"):  # the infinity is reported with its observation
                    return torch.from_numpy(array.astype(np.float32))
            found = "complex numbers"
        except (TypeError, ValueError):
            pass
        raise TypeError(f"{self.name}: expected an array of actions, found {found}")


def answer_of_function(function: Callable[[Any], Any]) -> Answer:
    """A user's function of NumPy observations; one call at a time, on a copy."""
    lock = threading.Lock()

    def answer(obs: Tensor) -> Any:
        with lock:
            return function(obs.numpy().copy())

    return answer


class Sampled(Actor, Protocol):
    """An actor with sampling noise."""

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """Sampling noise of one step, [rows, width]."""


class Mixture:
    """In every step acts as the expert with probability beta, otherwise as the learner.

    The draws are a function of the learner's seed, the episode and the step.  Implements `Actor`.
    """

    def __init__(self, expert: AskedExpert, learner: Sampled, beta: float) -> None:
        """beta: in [0, 1]."""
        self.expert, self.learner, self.beta = expert, learner, beta
        self.seed = learner.seed

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """A number in [0, 1) that chooses who acts, and the learner's noise, [rows, 1 + width]."""
        noise = self.learner.noise(stream, step, rows)
        counter = torch.tensor([step], dtype=torch.int64, device="cpu")
        who = uniform(self.seed, counter, stream ^ purpose("dagger", "mixture"), rows, noise.dtype)
        return torch.cat([who.view(rows, 1), noise], 1)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, A] for observations [B, D].

        noise: from `noise`; None gives the learner's mode.
        """
        if noise is None:
            return self.learner.act_rows(obs, None)
        of_learner = self.learner.act_rows(obs, noise[:, 1:])
        return torch.where(noise[:, :1] < self.beta, self.expert.ask(obs), of_learner)
