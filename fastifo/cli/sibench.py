"""`fastifo sibench build | show`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from fastifo.benchmarks.sets import SIZES, build_sets
from fastifo.cli.help import make_group
from fastifo.cli.lists import Ints
from fastifo.data.pack import read_header
from fastifo.utils.schema import check_schema
from fastifo.utils.text import number_texts

SET_INFO = {
    "spec": {"d": int, "seed": int},
    "background_return_mean": float,
    "background_return_std": float,
    "background_length_mean": float,
}


@dataclass(frozen=True)
class Build:
    """Build SIBench sets: clone d demonstrations, play the clone, for several values of d.

    Needs     nothing for tasks with an included expert; otherwise --policy or --demonstrations
    Writes    OUT/ENV/d=<size>.fastifo, one dataset per size
    Example   fastifo sibench build --env-id Hopper-v4 --sizes 1 10 100 --episodes 200
    Example   fastifo sibench build --env-id Hopper-v4/image --image-size 42 --episodes 200
    """

    env_id: str
    """Environment; Hopper-v4, HalfCheetah-v4, Walker2d-v4 and Ant-v4 have an included expert. With
    /image at its end, episodes are rendered, and the learner sees the images."""
    out: Path = Path("sibench")
    """The sets are written to OUT/ENV. Repeat the command to resume."""
    sizes: Ints = SIZES
    """Numbers of cloned demonstrations; one set each."""
    episodes: int = 1000
    """Episodes of each background."""
    demos: int = 0
    """Expert episodes to play; all are given to the learner. 0 is the largest size."""
    policy: str = ""
    """A policy file to use instead of the included expert."""
    demonstrations: str = ""
    """A dataset (d4rl:..., minari:..., a file) to take the demonstrations from instead."""
    noise: float | None = None
    """Action noise of the demonstrations; without the flag 0.5 of a policy's own, 0.1 of a
    script."""
    bc_updates: int = 10_000
    """Updates of each clone."""
    seed: int = 0
    """Seed of demonstrations, clones and backgrounds."""
    cameras: str = ""
    """Of sets with images: cameras joined by +. Default: agentview+robot0_eye_in_hand in robosuite,
    track elsewhere."""
    image_size: int = 0
    """Of sets with images: height and width in pixels. 0 is 84."""
    frame_stack: int = 0
    """Of sets with images: successive frames in an image. 0 is 1 in robosuite, 3 elsewhere."""

    def main(self) -> None:
        """Builds the sets and lists them."""
        options: dict[str, Any] = {} if self.demos == 0 else {"demos": self.demos}
        paths = build_sets(
            self.env_id,
            self.out / self.env_id,
            self.sizes,
            demonstrations=self.demonstrations,
            episodes=self.episodes,
            expert=self.policy,
            noise=self.noise,
            bc_updates=self.bc_updates,
            seed=self.seed,
            cameras=self.cameras,
            size=self.image_size,
            frame_stack=self.frame_stack,
            **options,
        )
        show(paths)


@dataclass(frozen=True)
class Show:
    """List the sets below a folder with their mean returns and lengths.

    Example   fastifo sibench show sibench
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the sets."""

    def main(self) -> None:
        """Prints one line per set."""
        show(self.folder.rglob("d=*.fastifo"))


def show(paths: Iterable[Path]) -> None:
    """Prints one line per set: the spec and the background's returns and episode lengths.

    Raises ValueError where there are no paths.
    """
    sets = [(path, read_header(path)["info"]) for path in paths]
    if not sets:
        raise ValueError(
            "no sets here; make some with: fastifo sibench build --env-id HalfCheetah-v4"
        )
    for path, info in sets:
        check_schema({"info": info}, {"info": SET_INFO}, path, "it is no set of `sibench build`")
    for path, info in sorted(sets, key=lambda x: (str(x[0].parent), x[1]["spec"]["d"])):
        mean, deviation = number_texts(
            info[f"background_return_{name}"] for name in ("mean", "std")
        )
        print(
            f"{path}  d {info['spec']['d']}, seed {info['spec']['seed']}, "
            f"return {mean} ± {deviation}, "
            f"length {info['background_length_mean']:.0f}"
        )


SIBench = make_group(
    "SIBench",
    "Build and list background sets as in the VfO study (SIBench).",
    {"build": Build, "show": Show},
)
