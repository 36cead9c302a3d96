"""The options of a SIBench set."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastifo.benchmarks.demonstrations import Demonstrator
from fastifo.benchmarks.images import SUFFIX, render_of
from fastifo.benchmarks.spec import parse_spec
from fastifo.envs.experts import default_noise
from fastifo.envs.render import SETTING
from fastifo.envs.rollout import MAX_RECORDED
from fastifo.envs.spec import EnvSpec, as_spec

RECIPE = 5  # version of how a set is made; part of the cache's file name
IMAGE_OPTIONS = ("cameras", "size", "frame_stack", "state")  # of sets of images


@dataclass(frozen=True)
class SIBenchSpec:
    """One set: `sibench:<env>/d=<n>,episodes=<n>,...`, or `sibench:<env>/image/d=<n>,...`.

    Raises ValueError for a bad option.
    """

    env_id: str  # the environment; "/image" at its end stands for `image=1`
    d: int = 0  # demonstrations that the background's policy is cloned from
    episodes: int = 1000  # of the background
    seed: int = 0  # of demonstrations, clone and background; 0 to 99
    demos: int = 1000  # expert episodes played; the first d of them are cloned
    n_expert: int = 0  # demonstrations given to the learner, without actions; 0 is all
    bc_updates: int = 10_000  # of the clone
    expert: str = ""  # a policy file, or file or spec of a dataset; empty is the shipped expert
    noise: float | None = None  # of the demonstrations; see `default_noise`, which is used for None
    mode: int = 0  # 1: the clone plays its mode; 0: it samples, as policies are evaluated
    background_noise: float = 0.0  # with d=0: of the expert's episodes that are the background
    image: int = 0  # 1: the episodes are filmed, and a learner sees the images
    cameras: str = ""  # names joined by +; empty: agentview and robot0_eye_in_hand, or else track
    size: int = 0  # height and width of the images; 0 is 84
    frame_stack: int = 0  # successive frames in an image; 0 is 1 in robosuite, and 3 elsewhere
    state: int = 0  # 1: a learner also sees the low-dimensional observation
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # the environment's settings

    def __post_init__(self) -> None:
        if self.env_id.endswith(SUFFIX):
            object.__setattr__(self, "env_id", self.env_id.removesuffix(SUFFIX))
            object.__setattr__(self, "image", 1)
        if self.noise is None:
            object.__setattr__(self, "noise", default_noise(self.env_id))
        self._check_images()
        self._check_numbers()

    def _check_numbers(self) -> None:
        if not 0 <= self.background_noise < math.inf or (self.d and self.background_noise):
            raise ValueError(
                "sibench: expected background_noise of at least 0, and no d beside it, found d="
                f"{self.d} and background_noise={self.background_noise}"
            )
        names = ("episodes", "demos", "bc_updates")
        for name in names if self.background_noise else ("d", *names):
            if getattr(self, name) < 1:
                raise ValueError(f"sibench: {name} must be at least 1, found {getattr(self, name)}")
        for name in ("episodes", "demos"):
            if getattr(self, name) > MAX_RECORDED:
                raise ValueError(
                    f"sibench: {name} must be at most {MAX_RECORDED}, found {getattr(self, name)}"
                )
        if self.n_expert < 0:
            raise ValueError(f"sibench: n_expert must be at least 0, found {self.n_expert}")
        if self.mode not in (0, 1):
            raise ValueError(f"sibench: mode must be 0 or 1, found {self.mode}")
        for name in ("d", "n_expert"):
            if getattr(self, name) > self.demos:
                raise ValueError(
                    f"sibench: {name}={getattr(self, name)} is more than demos={self.demos}; "
                    "raise demos"
                )
        if self.noise is None or not 0 <= self.noise < math.inf:
            raise ValueError(f"sibench: noise must be at least 0 and finite, found {self.noise}")
        if not 0 <= self.seed < 100:
            raise ValueError(f"sibench: seed must be 0 to 99, found {self.seed}")

    def _check_images(self) -> None:
        for name in ("image", "state"):
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"sibench: {name} must be 0 or 1, found {getattr(self, name)}")
        given = [name for name in IMAGE_OPTIONS if getattr(self, name)]
        if given and not self.image:
            raise ValueError(
                f"sibench: {given[0]} is for sets of images; expected {self.env_id}{SUFFIX}"
            )
        if self.image and SETTING in self.env_kwargs:
            raise ValueError(
                "sibench: expected the options cameras, size and frame_stack instead of env.render"
            )
        if self.image:
            render_of(self.env_id, self.cameras, self.size, self.frame_stack)

    @staticmethod
    def parse(text: str) -> "SIBenchSpec":
        """Reads a spec.  Raises ValueError naming the part that is wrong."""
        required = "" if "background_noise=" in text else "d"
        spec = parse_spec(SIBenchSpec, text, required, "sibench:Hopper-v4/d=5,episodes=200")
        assert isinstance(spec, SIBenchSpec)
        return spec

    @property
    def name(self) -> str:
        """What distinguishes sets of one task: d=5, or background_noise=0.5."""
        noise = self.background_noise
        return f"background_noise={noise:g}" if noise else f"d={self.d}"

    @property
    def env(self) -> EnvSpec:
        """The environment in which expert and clone play, with its settings and cameras."""
        spec = as_spec(self.env_id, kwargs=self.env_kwargs)
        if not self.image:
            return spec
        return spec.rendered(render_of(self.env_id, self.cameras, self.size, self.frame_stack))

    def values(self) -> dict[str, Any]:
        """The options by name, those that identify a set; newer ones only if they are given."""
        newer = ("background_noise", "env_kwargs", "image", *IMAGE_OPTIONS)
        return {k: v for k, v in vars(self).items() if k != "expert" and (v or k not in newer)}

    def key(self, demonstrator: Demonstrator) -> str:
        """Identifies the set: a hash of every option, the demonstrations and the recipe."""
        values = sorted((k, v) for k, v in self.values().items() if k != "env_kwargs")
        identity = repr((RECIPE, values)).encode() + demonstrator.identity()
        return hashlib.sha256(identity).hexdigest()[:16]
