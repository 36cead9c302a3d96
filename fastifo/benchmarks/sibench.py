"""SIBench: background data from policies cloned from d demonstrations, or from a noisy expert.

Source: arXiv 2507.06701, SIBench. Behaviour cloning (stochastic, 101 bins) on d expert episodes
gives a policy; its episodes are the background, and the demonstrations without actions are the
expert data. Demonstrations are nested: a larger d starts with those of a smaller one.

With `background_noise` the background is the expert's own, and action noise sets its quality.

The paper leaves two choices open. Demonstrations are sampled around the expert's mean action, as
D4RL's are: those of a deterministic expert lie on one thin path, and their clone falls as soon as
it leaves it. The clone's observations are standardised.
"""

import dataclasses
from pathlib import Path

from fastifo.benchmarks.cache import cached_dataset
from fastifo.benchmarks.demonstrations import (
    Demonstrator,
    PlayedExpert,
    find_demonstrator,
)
from fastifo.benchmarks.images import without_state
from fastifo.benchmarks.sibench_spec import RECIPE, SIBenchSpec
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.engine.train import train
from fastifo.envs.registry import describe
from fastifo.envs.rollout import collect
from fastifo.envs.spec import as_spec
from fastifo.utils.parallel import one_thread

SEED_BLOCK = 1400  # environment seeds of the background; see `demonstrations.SEED_BLOCK`
NOISY_SEED_BLOCK = 1100  # added to the seed of the demonstrations for a noisy expert's episodes


def load_sibench(text: str, *, progress: bool = True) -> Dataset:
    """The set of a spec, from the cache; a set that is not there is built and cached.

    Raises ValueError for a wrong spec or a damaged file in the cache.
    """
    return load_set(SIBenchSpec.parse(text), progress=progress)


def load_set(spec: SIBenchSpec, *, progress: bool = True) -> Dataset:
    """`load_sibench` for a spec that has been read.  Raises as it does."""
    describe(spec.env)
    demonstrator = find_demonstrator(spec.env, spec.expert, progress=progress)
    check_demonstrator(spec, demonstrator)

    def make() -> Dataset:
        assert spec.noise is not None
        demonstrations = demonstrator.demonstrate(spec.demos, spec.seed, spec.noise)
        background = play_noisy(spec, demonstrator) if spec.background_noise else None
        return build_sibench(spec, demonstrations, background=background, progress=progress)

    kind = "-image" if spec.image else ""
    name = f"sibench-{spec.env_id}{kind}-d{spec.d}-{spec.key(demonstrator)}.fastifo"
    return cached_dataset(name, make)


def check_demonstrator(spec: SIBenchSpec, demonstrator: Demonstrator) -> None:
    """Raises ValueError for recorded episodes in a set of images, which has to be played."""
    if spec.image and not isinstance(demonstrator, PlayedExpert):
        raise ValueError(
            f"sibench: sets of images are played by an expert, found recorded episodes "
            f"({spec.expert or 'demonstrations'}); expected a policy file"
        )


def play_noisy(spec: SIBenchSpec, demonstrator: Demonstrator) -> Episodes:
    """The background of a noisy expert."""
    seed = NOISY_SEED_BLOCK + spec.seed
    return demonstrator.more_episodes(spec.episodes, seed, spec.background_noise)


def build_sibench(
    spec: SIBenchSpec,
    demonstrations: Dataset,
    *,
    background: Episodes | None = None,
    clone_folder: Path | None = None,
    progress: bool = True,
) -> Dataset:
    """The set of a background and of demonstrations without actions.

    demonstrations: episodes with actions, as the background of a dataset.
    background: the set's; None: the first d demonstrations are cloned, and the clone plays.
    clone_folder: run folder of the clone, so that a stopped training continues; without one the
    clone is not kept.
    """
    demos = demonstrations.background
    task = dataclasses.replace(demonstrations, expert=None, env_id=spec.env_id, info={})
    if background is None:
        background = _play_clone(spec, task, clone_folder, progress)
    count = min(spec.n_expert or demos.num_episodes, demos.num_episodes)
    expert = demos.take(range(count)).without_rewards()
    info = {
        "spec": spec.values(),
        "recipe": RECIPE,
        **demonstrations.info,
        **background_statistics(background),
    }
    dataset = dataclasses.replace(
        task, background=background, expert=expert, info=info, unverified=()
    )
    return without_state(dataset) if spec.image and not spec.state else dataset


def _play_clone(
    spec: SIBenchSpec, task: Dataset, clone_folder: Path | None, progress: bool
) -> Episodes:
    """Episodes of a clone of the first d episodes of `task`."""
    if spec.d > task.background.num_episodes:
        raise ValueError(
            f"sibench: d={spec.d} is more than the {task.background.num_episodes} demonstrations "
            "there are"
        )
    demos = task.background.take(range(spec.d))
    env = as_spec(spec.env_id, settings=task.env_kwargs, obs_keys=task.obs_keys)
    with one_thread():  # the bits of a result depend on the number of threads
        clone = train(
            "bc",
            dataclasses.replace(task, background=demos).with_cameras(),
            num_updates=spec.bc_updates,
            seeds=[spec.seed],
            device="cpu",
            precision="fp32",
            out=clone_folder,
            progress=progress,
            standardize_obs=True,
        )
        return collect(
            clone.policy(0),
            env,
            spec.episodes,
            bool(spec.mode),
            seed=SEED_BLOCK + spec.seed,
            title="background",
            bounds=(task.action_low, task.action_high),
            progress=progress,
            record_images=bool(spec.image),
        )


def background_statistics(background: Episodes) -> dict[str, float]:
    """Mean and standard deviation of the undiscounted returns, and the mean length in steps."""
    returns = background.returns()
    assert returns is not None
    return {
        "background_return_mean": float(returns.mean()),
        "background_return_std": float(returns.std(correction=0)),
        "background_length_mean": float(background.lengths.double().mean()),
    }
