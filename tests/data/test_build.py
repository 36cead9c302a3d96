"""Invalid episodes: each error names the array, what was expected and what was found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fastifo.data.dataset import Dataset


def episode(steps: int = 4, obs_dim: int = 3, action_dim: int = 2, **fields: Any) -> dict[str, Any]:
    return {"obs": np.zeros((steps + 1, obs_dim)), "action": np.zeros((steps, action_dim))} | fields


def observations_with(value: float = np.nan, rows: int = 5) -> Any:
    """Zeros except for the value at [2, 1]."""
    array = np.zeros((rows, 3))
    array[2, 1] = value
    return array


def build(*background: Any, **fields: Any) -> Callable[[], Dataset]:
    return lambda: Dataset.from_episodes(list(background), **fields)


INVALID: dict[str, tuple[Callable[[], Dataset], type[Exception], list[str]]] = {
    "nan_in_observations": (
        build(episode(), episode(obs=observations_with())),
        ValueError,
        ["background[1]['obs']", "expected finite numbers", "found nan at [2, 1]", "drop the epis"],
    ),
    "nan_in_expert": (
        build(episode(), expert=[{"obs": observations_with()}]),
        ValueError,
        ["expert[0]['obs']", "found nan at [2, 1]", "drop the episode or repair"],
    ),
    "number_beyond_float32": (
        build(episode(obs=observations_with(1e300))),
        ValueError,
        ["background[0]['obs']", "found inf at [2, 1]"],
    ),
    "no_episodes": (build(), ValueError, ["background", "expected one or more", "found none"]),
    "empty_episode": (
        build(episode(), episode(steps=0)),
        ValueError,
        ["background[1]", "expected at least 2 steps", "found 0 (1 observations)", "drop the epis"],
    ),
    "episode_without_observations": (
        build(episode(obs=np.zeros((0, 3)))),
        ValueError,
        ["background[0]", "expected at least 2 steps", "found 0 (0 observations)"],
    ),
    "one_step_episode": (
        build(episode(steps=1)),
        ValueError,
        ["background[0]", "at least 2 steps", "found 1", "or pass min_steps=1 to keep it"],
    ),
    "one_step_expert": (
        build(episode(), expert=[{"obs": np.zeros((2, 3))}]),
        ValueError,
        ["expert[0]", "at least 2 steps", "found 1"],
    ),
    "flat_observations": (
        build(episode(obs=np.zeros(5))),
        ValueError,
        ["background[0]['obs']", "expected 2 dimensions", "found shape (5,)"],
    ),
    "observations_without_columns": (
        build(episode(obs=np.zeros((5, 0)))),
        ValueError,
        ["background[0]['obs']", "expected one or more columns", "found shape (5, 0)"],
    ),
    "as_many_observations_as_actions": (
        build(episode(obs=np.zeros((4, 3)))),
        ValueError,
        ["background[0]['action']", "expected 3 rows, one fewer than the 4 obs", "(4, 2)"],
    ),
    "reward_of_another_length": (
        build(episode(reward=np.zeros(5))),
        ValueError,
        ["background[0]['reward']", "expected 4 rows", "found shape (5,)"],
    ),
    "rewards_in_some_episodes": (
        build(episode(reward=np.zeros(4)), episode()),
        ValueError,
        ["background[1]", "'reward' in every episode or in none", "background[0] but not here"],
    ),
    "observation_widths_differ": (
        build(episode(), episode(obs_dim=4)),
        ValueError,
        ["background[1]['obs']", "expected width 3 as in the first episode", "found 4"],
    ),
    "action_widths_differ": (
        build(episode(), episode(action_dim=1)),
        ValueError,
        ["background[1]['action']", "expected width 2", "found 1"],
    ),
    "expert_of_another_width": (
        build(episode(), expert=[{"obs": np.zeros((4, 5))}]),
        ValueError,
        ["expert observations have width 5", "background observations 3", "the same observ"],
    ),
    "action_out_of_bounds": (
        build(episode(action=np.array([[0, 0], [0, -1.5], [0, 0], [0, 0]]))),
        ValueError,
        ["background[0]['action']", "within [-1, 1]", "found -1.5", "step 1, dimension 1", "clip"],
    ),
    "action_out_of_given_bounds": (
        build(episode(action=np.full((4, 2), 3.0)), action_low=-2, action_high=2),
        ValueError,
        ["background[0]['action']", "within [action_low, action_high]", "found 1.5"],
    ),
    "one_bound": (
        build(episode(), action_low=-1),
        ValueError,
        ["action_low and action_high", "expected both or neither", "found one"],
    ),
    "bounds_of_another_width": (
        build(episode(), action_low=[-1] * 3, action_high=1),
        ValueError,
        ["action_low", "expected one number or 2", "found 3"],
    ),
    "lower_bound_above_the_upper": (
        build(episode(), action_low=1, action_high=-1),
        ValueError,
        ["action_low", "expected less than action_high", "found 1 and -1"],
    ),
    "no_actions": (
        build({"obs": np.zeros((5, 3))}),
        ValueError,
        ["background[0]", "expected keys ['action', 'obs']", "found ['obs']"],
    ),
    "unknown_key": (
        build(episode(state=np.zeros((5, 3)))),
        ValueError,
        ["background[0]", "optionally ['image', 'reward', 'terminal']", "'state'"],
    ),
    "terminal_as_text": (
        build(episode(terminal="False")),
        TypeError,
        ["background[0]['terminal']", "one bool", "found str"],
    ),
    "actions_without_columns": (
        build(episode(action=np.zeros((4, 0)))),
        ValueError,
        ["background[0]['action']", "found shape (4, 0)"],
    ),
    "terminal_for_every_step": (
        build(episode(terminal=np.zeros(4, bool))),
        TypeError,
        ["background[0]['terminal']", "one bool", "of shape (4,)", "pass its last entry"],
    ),
    "terminal_that_is_unknown": (
        build(episode(terminal=float("nan"))),
        TypeError,
        ["background[0]['terminal']", "one bool", "found nan"],
    ),
    "masked_entries": (
        build(episode(obs=np.ma.masked_greater(np.eye(5, 3), 0.5))),
        TypeError,
        ["background[0]['obs']", "expected an array of numbers", "masked"],
    ),
    "one_episode_instead_of_a_list": (
        lambda: Dataset.from_episodes(episode()),  # type: ignore[arg-type]
        TypeError,
        ["background", "expected a list of episodes", "found dict"],
    ),
    "no_list_of_demonstrations": (
        build(episode(), expert=None),
        TypeError,
        ["expert", "expected a list of episodes", "found NoneType"],
    ),
    "array_instead_of_an_episode": (
        build(np.zeros((5, 3))),
        TypeError,
        ["background[0]", "expected a mapping with 'obs'", "found ndarray"],
    ),
    "strings": (
        build(episode(obs=[["a", "b", "c"]] * 5)),
        TypeError,
        ["background[0]['obs']", "expected an array of numbers", "found list"],
    ),
    "ragged_rows": (
        build(episode(obs=[[1.0, 2.0], [3.0]])),
        TypeError,
        ["background[0]['obs']", "expected an array of numbers", "found list"],
    ),
    "ragged_actions": (
        build(episode(action=[[1.0, 2.0], [3.0]])),
        TypeError,
        ["background[0]['action']", "expected an array of numbers", "found list"],
    ),
    "complex_numbers": (
        build(episode(obs=torch.zeros(5, 3, dtype=torch.complex64))),
        TypeError,
        ["background[0]['obs']", "expected an array of numbers", "complex64"],
    ),
    "no_array": (
        build(episode(obs=None)),
        TypeError,
        ["background[0]['obs']", "expected an array of numbers", "found NoneType"],
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_episodes_are_refused(case: str) -> None:
    make, error, phrases = INVALID[case]
    with pytest.raises(error) as caught:
        make()
    for phrase in phrases:
        assert phrase in str(caught.value)


def test_a_one_step_episode_is_kept_if_asked_for() -> None:
    dataset = Dataset.from_episodes([episode(steps=1)], min_steps=1)
    assert dataset.background.lengths.tolist() == [1]


def test_expert_actions_are_kept_and_expert_rewards_dropped_whatever_they_hold() -> None:
    demo = episode() | {"action": np.full((4, 2), np.nan), "reward": np.full(4, np.nan)}
    plain = {"obs": demo["obs"]}
    dataset = Dataset.from_episodes([episode()], [demo])
    assert dataset.expert is not None
    assert dataset.expert.action is not None
    assert bool(dataset.expert.action.isnan().all())
    assert dataset.expert.reward is None
    some = Dataset.from_episodes([episode()], [demo, plain])
    assert some.expert is not None
    assert some.expert.action is None


def test_expert_actions_are_mapped_like_background_actions() -> None:
    one = episode() | {"action": np.full((4, 2), 3.0)}
    dataset = Dataset.from_episodes([one], [one], action_low=0.0, action_high=4.0)
    assert dataset.expert is not None
    assert dataset.expert.action is not None
    assert dataset.expert.action.unique().tolist() == [0.5]


def test_an_env_id_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match="env_id: expected a name such as 'Hopper-v4', found 3"):
        Dataset.from_episodes([episode()], env_id=3)  # type: ignore[arg-type]
