"""Checks episodes that a user passes as arrays, and stores them as columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from fastifo.data.build_images import build_images, check_same_cameras
from fastifo.data.episodes import Episode, Episodes
from fastifo.data.formats.actions import DISCRETE

COLUMNS = ("action", "obs", "reward", "terminal")
KEYS = {*COLUMNS, "image"}
REQUIRED = {"expert": {"obs"}, "background": {"obs", "action"}}


def build_dataset(
    background: Iterable[Mapping[str, Any] | Episode],
    expert: Iterable[Mapping[str, Any] | Episode],
    env_id: str | None,
    action_low: Any,
    action_high: Any,
    min_steps: int,
) -> dict[str, Any]:
    """The fields of a `Dataset`; arguments and errors as in `Dataset.from_episodes`."""
    if env_id is not None and not isinstance(env_id, str):
        raise TypeError(f"env_id: expected a name such as 'Hopper-v4', found {env_id!r}")
    background, expert = _as_list("background", background), _as_list("expert", expert)
    if not background:
        raise ValueError("background: expected one or more episodes, found none")
    low, high = _bounds(action_low, action_high, background[0])
    columns = _columns("background", background, min_steps, low, high)
    expert_columns = _columns("expert", expert, min_steps, low, high) if expert else None
    if expert_columns is not None and expert_columns.obs_dim != columns.obs_dim:
        raise ValueError(
            f"expert observations have width {expert_columns.obs_dim}, background observations "
            f"{columns.obs_dim}; both must come from the same observation space"
        )
    if expert_columns is not None:
        check_same_cameras(columns.images, expert_columns.images)
    return {
        "background": columns,
        "expert": expert_columns,
        "env_id": env_id,
        "action_low": low,
        "action_high": high,
    }


def _as_list(name: str, episodes: Any) -> list[Any]:
    """Raises TypeError unless it is an iterable of episodes; one episode or one array is not."""
    if isinstance(episodes, Mapping | str | Tensor | np.ndarray) or not isinstance(
        episodes, Iterable
    ):
        raise TypeError(
            f"{name}: expected a list of episodes such as [{{'obs': ...}}], found "
            f"{type(episodes).__name__}"
        )
    return list(episodes)


def _as_mapping(episode: Any) -> Any:
    return episode.columns() if isinstance(episode, Episode) else episode


def to_tensor(name: str, value: Any, ndim: int, *, finite: bool = True) -> Tensor:
    """A contiguous float32 tensor on the CPU.

    name: what errors call the array.  ndim: its required number of dimensions.
    finite: whether NaN and infinity are refused.
    Raises TypeError if it is no array of real numbers, ValueError for another shape or value.
    """
    tensor = _as_tensor(name, value).to("cpu", torch.float32)
    if tensor.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimensions, found shape {tuple(tensor.shape)}")
    if finite and not bool(torch.isfinite(tensor).all()):
        index = torch.nonzero(~torch.isfinite(tensor))[0].tolist()
        raise ValueError(
            f"{name}: expected finite numbers, found {float(tensor[tuple(index)])} at {index}; "
            "drop the episode or repair the file"
        )
    return tensor.contiguous()


def _as_tensor(name: str, value: Any) -> Tensor:
    """A tensor of the array's own type.  Raises TypeError if it is no array of real numbers."""
    try:
        if isinstance(value, Tensor):
            tensor = value
        elif isinstance(value, np.ndarray | np.generic | list | tuple | float | int):
            if np.ma.is_masked(value):
                raise TypeError("with masked entries; drop or fill them")
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"of dtype {array.dtype}")
            # torch supports neither negative strides nor foreign byte order nor read-only arrays.
            array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
            tensor = torch.from_numpy(array)
        else:
            tensor = torch.utils.dlpack.from_dlpack(value)
        if tensor.is_complex():
            raise TypeError(f"of dtype {tensor.dtype}")
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        kind = type(value).__name__
        raise TypeError(f"{name}: expected an array of numbers, found {kind} ({error})") from None
    return tensor.detach()


def _bounds(low: Any, high: Any, episode: Any) -> tuple[Tensor | None, Tensor | None]:
    """Both bounds, [A] each; a number is expanded to the action's width."""
    if (low is None) != (high is None):
        raise ValueError("action_low and action_high: expected both or neither, found one")
    episode = _as_mapping(episode)
    if low is None or not isinstance(episode, Mapping) or "action" not in episode:
        return None, None  # a faulty episode is refused later
    width = to_tensor("background[0]['action']", episode["action"], 2).shape[1]
    bounds = []
    for name, value in (("action_low", low), ("action_high", high)):
        bound = to_tensor(name, [value] * width if np.ndim(value) == 0 else value, 1)
        if len(bound) != width:
            raise ValueError(
                f"{name}: expected one number or {width}, the width of the actions, found "
                f"{len(bound)}"
            )
        bounds.append(bound)
    if not bool((bounds[0] < bounds[1]).all()):
        raise ValueError(
            f"action_low: expected less than action_high in every dimension, found {low} and {high}"
        )
    return bounds[0], bounds[1]


def _columns(
    source: str,
    given_episodes: Sequence[Mapping[str, Any] | Episode],
    min_steps: int,
    low: Tensor | None,
    high: Tensor | None,
) -> Episodes:
    """The checked episodes of one source, end to end."""
    bounds = [(None, None) if isinstance(e, Episode) else (low, high) for e in given_episodes]
    episodes = [_as_mapping(episode) for episode in given_episodes]
    checked = [
        _episode(f"{source}[{i}]", source, episode, min_steps, *bounds[i])
        for i, episode in enumerate(episodes)
    ]
    _check_agreement(source, checked)
    given = {key: [episode[key] for episode in checked] for key in COLUMNS}
    length = torch.tensor([len(obs) - 1 for obs in given["obs"]], device="cpu")
    start = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), length.cumsum(0)])
    terminal = torch.zeros(int(start[-1]), dtype=torch.bool, device="cpu")
    timeout = torch.zeros_like(terminal)
    is_terminal = torch.tensor(given["terminal"], dtype=torch.bool, device="cpu")
    terminal[start[1:] - 1] = is_terminal
    timeout[start[1:] - 1] = ~is_terminal
    return Episodes(
        obs=torch.cat(given["obs"]),
        start=start,
        terminal=terminal,
        timeout=timeout,
        action=_joined(given["action"]),
        reward=_joined(given["reward"]),
        images=build_images(source, episodes, length.tolist()),
    )


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    """None unless every episode has the column."""
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if len(tensors) == len(parts) else None


def _check_agreement(source: str, episodes: list[dict[str, Any]]) -> None:
    """Raises ValueError if episodes differ in width, or only some of them have rewards."""
    for column in ("obs", "action"):
        widths = [e[column].shape[1] for e in episodes if e[column] is not None]
        odd = next((i for i, width in enumerate(widths) if width != widths[0]), None)
        if odd is not None:
            raise ValueError(
                f"{source}[{odd}]['{column}']: expected width {widths[0]} as in the first episode, "
                f"found {widths[odd]}"
            )
    has_reward = [episode["reward"] is not None for episode in episodes]
    if any(has_reward) and not all(has_reward):
        raise ValueError(
            f"{source}[{has_reward.index(False)}]: expected 'reward' in every episode or in none, "
            f"found it in {source}[{has_reward.index(True)}] but not here"
        )


def _episode(
    name: str,
    source: str,
    episode: Mapping[str, Any],
    min_steps: int,
    low: Tensor | None,
    high: Tensor | None,
) -> dict[str, Any]:
    """One checked episode: tensors by key, None for a missing one.  `name` is for errors."""
    if not isinstance(episode, Mapping):
        kind = type(episode).__name__
        raise TypeError(f"{name}: expected a mapping with 'obs', found {kind}")
    required = REQUIRED[source]
    if set(episode) - KEYS or not required <= set(episode):
        raise ValueError(
            f"{name}: expected keys {sorted(required)} and optionally {sorted(KEYS - required)}, "
            f"found {sorted(map(str, episode))}"
        )
    obs = to_tensor(f"{name}['obs']", episode["obs"], 2)
    if obs.shape[1] == 0:
        raise ValueError(
            f"{name}['obs']: expected one or more columns, found shape {tuple(obs.shape)}"
        )
    steps = len(obs) - 1
    if steps < max(min_steps, 1):
        raise ValueError(
            f"{name}: expected at least {max(min_steps, 1)} steps, found {max(steps, 0)} "
            f"({len(obs)} observations); drop the episode"
            + (", or pass min_steps=1 to keep it" if steps == 1 else "")
        )
    terminal = episode.get("terminal", False)
    if np.ndim(terminal) != 0 or isinstance(terminal, str | bytes):
        raise TypeError(
            f"{name}['terminal']: expected one bool for the whole episode, found "
            f"{type(terminal).__name__} of shape {np.shape(terminal)}; pass its last entry"
        )
    if terminal not in (0, 1):
        raise TypeError(f"{name}['terminal']: expected one bool, found {terminal}")
    checked = {"obs": obs, "terminal": bool(terminal), "action": None, "reward": None}
    if source == "expert":
        if "action" in episode:  # its values are checked by the method that learns from it
            action = _rows(f"{name}['action']", episode["action"], 2, steps, finite=False)
            checked["action"] = _to_unit(f"{name}['action']", action, low, high)
    else:
        given = _as_tensor(f"{name}['action']", episode["action"])
        if low is None:
            _check_continuous(f"{name}['action']", given)
        action = _rows(f"{name}['action']", given, 2, steps)
        checked["action"] = _unit_action(f"{name}['action']", action, low, high)
        if "reward" in episode:
            checked["reward"] = _rows(f"{name}['reward']", episode["reward"], 1, steps)
    return checked


def _check_continuous(name: str, action: Tensor) -> None:
    """Raises ValueError for integers or booleans that number the actions of a Discrete space."""
    if action.is_floating_point() or not action.numel():
        return
    low, high = (int(x) for x in action.long().aminmax())
    if action.ndim < 2 or low < -1 or high > 1 or (low >= 0 and high > 0):
        raise ValueError(
            f"{name}: {DISCRETE}; found {low} to {high} in {action.dtype}. If not, pass floats"
        )


def _rows(name: str, value: Any, ndim: int, steps: int, *, finite: bool = True) -> Tensor:
    """One row per step.  Rewards may be NaN; methods that learn from them refuse it."""
    tensor = to_tensor(name, value, ndim, finite=finite and ndim > 1)
    if len(tensor) != steps or 0 in tensor.shape:
        raise ValueError(
            f"{name}: expected {steps} rows, one fewer than the {steps + 1} observations, found "
            f"shape {tuple(tensor.shape)}"
        )
    return tensor


def _to_unit(name: str, action: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Actions mapped from [low, high] to [-1, 1]; unchanged without bounds."""
    if low is None or high is None:
        return action
    if action.shape[1] != len(low):
        raise ValueError(
            f"{name}: expected width {len(low)}, that of action_low, found {action.shape[1]}"
        )
    return 2.0 * (action - low) / (high - low) - 1.0


def _unit_action(name: str, action: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Actions mapped to [-1, 1].  Raises ValueError if one is outside by more than rounding."""
    action = _to_unit(name, action, low, high)
    worst = float(action.abs().max()) if action.numel() else 0.0
    if worst > 1.0 + 1e-5:
        step, dim = divmod(int(action.abs().argmax()), action.shape[1])
        bounds = "[-1, 1]" if low is None else "[action_low, action_high]"
        raise ValueError(
            f"{name}: expected actions within {bounds}, found {float(action[step, dim]):.6g} (on "
            f"the [-1, 1] scale) at step {step}, dimension {dim}; clip them, or pass action_low "
            "and action_high"
        )
    return action.clamp(-1.0, 1.0)
