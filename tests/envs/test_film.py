"""Films: the episode of an evaluation, seen by a camera."""

from typing import Any

import numpy as np
import pytest

import own_envs
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.film import film
from fastifo.envs.spec import EnvSpec, as_spec
from support import LinearPolicy, needs_rendering

SMALL: dict[str, Any] = {"height": 16, "width": 24, "progress": False}


def policy() -> LinearPolicy:
    return LinearPolicy(0, 0.5, 2, 1)


def boxes(**settings: Any) -> EnvSpec:
    return as_spec(own_envs.Boxes, kwargs=settings)


@needs_rendering
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_film_is_an_episode_of_the_evaluation(deterministic: bool) -> None:
    returns = evaluate_policies([policy()], boxes(), 3, deterministic, seed=1, progress=False)
    for episode in range(3):
        shot = film(
            policy(), boxes(), episode=episode, seed=1, deterministic=deterministic, **SMALL
        )
        assert len(shot.frames) == returns.lengths[0, episode] + 1
        assert shot.return_ == pytest.approx(returns.returns[0, episode], abs=1e-6)
        assert returns.successes is not None
        assert shot.success == returns.successes[0, episode]
        assert {(frame.dtype, frame.shape) for frame in shot.frames} == {
            (np.dtype(np.uint8), (16, 24, 3))
        }
        assert shot.camera == "front"


@needs_rendering
def test_a_film_shows_the_camera_that_is_asked_for_and_ends_early() -> None:
    shots = (film(policy(), boxes(), camera=c, seed=2, max_steps=2, **SMALL) for c in ("", "back"))
    front, back = shots
    assert len(front.frames) == len(back.frames) == 3
    mirrored = np.abs(front.frames[0][:, ::-1].astype(int) - back.frames[0])
    assert 4 * mirrored.mean() < np.abs(front.frames[0].astype(int) - back.frames[0]).mean()
    with pytest.raises(ValueError, match="no camera 'bak'; did you mean 'back'"):
        film(policy(), boxes(), camera="bak", **SMALL)


def test_an_environment_that_draws_itself_is_filmed() -> None:
    shot = film(policy(), as_spec(own_envs.Drawn), max_steps=2, **SMALL)
    assert [frame.shape for frame in shot.frames] == [(8, 8, 3)] * 3
    with pytest.raises(ValueError, match="has neither a MuJoCo model nor its own render"):
        film(policy(), as_spec(own_envs.Line), **SMALL)


@pytest.mark.parametrize("name", ["episode", "max_steps"])
def test_negative_numbers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected an integer of at least 0, found -1"):
        film(policy(), as_spec(own_envs.Drawn), **(SMALL | {name: -1}))


def test_observations_that_are_not_finite_are_named() -> None:
    class Diverging(own_envs.Diverging, own_envs.Drawn):
        pass

    with pytest.raises(ValueError, match=r"expected finite observations, .*nan.* after step 3"):
        film(policy(), as_spec(Diverging), **SMALL)


def test_what_only_envpool_has_is_not_filmed() -> None:
    with pytest.raises(ValueError, match="metaworld/Reach: EnvPool does not render it"):
        film(policy(), as_spec("metaworld/Reach"), **SMALL)
