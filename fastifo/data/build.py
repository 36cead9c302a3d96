"""Checks arrays that come from outside and lays them out as columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from fastifo.data.episodes import Episodes

KEYS = {"obs", "action", "reward", "terminal"}
NEEDED = {"expert": {"obs"}, "background": {"obs", "action"}}


def build_dataset(
    background: Sequence[Mapping[str, Any]],
    expert: Sequence[Mapping[str, Any]],
    env_id: str | None,
    action_low: Any,
    action_high: Any,
    min_steps: int,
) -> dict[str, Any]:
    """The fields of the dataset; see `Dataset.from_episodes`."""
    if env_id is not None and not isinstance(env_id, str):
        raise TypeError(f"env_id: expected a name such as 'Hopper-v4', found {env_id!r}")
    background, expert = _listed("background", background), _listed("expert", expert)
    if not background:
        raise ValueError("background: expected one or more episodes, found none")
    low, high = _bounds(action_low, action_high, background[0])
    offline = _columns("background", background, min_steps, low, high)
    demos = _columns("expert", expert, min_steps, low, high) if expert else None
    if demos is not None and demos.obs_dim != offline.obs_dim:
        raise ValueError(
            f"expert observations are {demos.obs_dim} wide, background ones {offline.obs_dim}; "
            "both must come from the same observation space"
        )
    return {
        "background": offline,
        "expert": demos,
        "env_id": env_id,
        "action_low": low,
        "action_high": high,
    }


def _listed(name: str, episodes: Any) -> list[Any]:
    """Raises TypeError for anything but several episodes."""
    if isinstance(episodes, Mapping | str | Tensor | np.ndarray) or not isinstance(
        episodes, Iterable
    ):
        found = type(episodes).__name__
        raise TypeError(
            f"{name}: expected a list of episodes such as [{{'obs': ...}}], found {found}"
        )
    return list(episodes)


def to_tensor(name: str, value: Any, ndim: int, *, finite: bool = True) -> Tensor:
    """A float32 CPU tensor, finite if asked.  Raises TypeError or ValueError naming `name`."""
    try:
        if isinstance(value, Tensor):
            tensor = value
        elif isinstance(value, np.ndarray | np.generic | list | tuple | float | int):
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"of dtype {array.dtype}")
            # torch takes no negative strides, no other byte order and nothing read-only.
            plain = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
            tensor = torch.from_numpy(plain)
        else:
            tensor = torch.utils.dlpack.from_dlpack(value)
        if tensor.is_complex():
            raise TypeError(f"of dtype {tensor.dtype}")
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        found = type(value).__name__
        raise TypeError(f"{name}: expected an array of numbers, found {found} ({error})") from None
    tensor = tensor.detach().to("cpu", torch.float32)
    if tensor.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimensions, found shape {tuple(tensor.shape)}")
    if finite and not bool(torch.isfinite(tensor).all()):
        place = torch.nonzero(~torch.isfinite(tensor))[0].tolist()
        raise ValueError(
            f"{name}: expected finite numbers, found {float(tensor[tuple(place)])} at {place}; "
            "drop the episode or repair the file"
        )
    return tensor.contiguous()


def _bounds(low: Any, high: Any, episode: Any) -> tuple[Tensor | None, Tensor | None]:
    """Both bounds at the action's width, [A]; one number stands for every dimension."""
    if (low is None) != (high is None):
        raise ValueError("action_low and action_high: expected both or neither, found one")
    if low is None or not isinstance(episode, Mapping) or "action" not in episode:
        return None, None  # the episode itself is refused later
    width = to_tensor("background[0]['action']", episode["action"], 2).shape[1]
    sides = []
    for name, value in (("action_low", low), ("action_high", high)):
        side = to_tensor(name, [value] * width if np.ndim(value) == 0 else value, 1)
        if len(side) != width:
            raise ValueError(
                f"{name}: expected one number or {width}, as wide as the actions, found {len(side)}"
            )
        sides.append(side)
    if not bool((sides[0] < sides[1]).all()):
        raise ValueError(f"action_low: expected below action_high, found {low} and {high}")
    return sides[0], sides[1]


def _columns(
    source: str,
    episodes: Sequence[Mapping[str, Any]],
    min_steps: int,
    low: Tensor | None,
    high: Tensor | None,
) -> Episodes:
    checked = [
        _episode(f"{source}[{i}]", source, episode, min_steps, low, high)
        for i, episode in enumerate(episodes)
    ]
    for column in ("obs", "action"):
        widths = [e[column].shape[1] for e in checked if e[column] is not None]
        odd = next((i for i, width in enumerate(widths) if width != widths[0]), None)
        if odd is not None:
            raise ValueError(
                f"{source}[{odd}]['{column}']: expected width {widths[0]} as in the first episode, "
                f"found {widths[odd]}"
            )
    given = {k: [e[k] for e in checked] for k in ("obs", "action", "reward", "terminal")}
    has_reward = given["reward"][0] is not None
    odd = next((i for i, r in enumerate(given["reward"]) if (r is not None) != has_reward), None)
    if odd is not None:
        with_it, without = (0, odd) if has_reward else (odd, 0)
        raise ValueError(
            f"{source}[{without}]: expected 'reward' in every episode or in none, found it in "
            f"{source}[{with_it}] and not here"
        )
    length = torch.tensor([len(obs) - 1 for obs in given["obs"]])
    start = torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)])
    terminal = torch.zeros(int(start[-1]), dtype=torch.bool)
    timeout = torch.zeros_like(terminal)
    ended = torch.tensor(given["terminal"], dtype=torch.bool)
    terminal[start[1:] - 1] = ended
    timeout[start[1:] - 1] = ~ended
    return Episodes(
        obs=torch.cat(given["obs"]),
        start=start,
        terminal=terminal,
        timeout=timeout,
        action=torch.cat(given["action"]) if all(a is not None for a in given["action"]) else None,
        reward=torch.cat(given["reward"]) if has_reward else None,
    )


def _episode(
    name: str,
    source: str,
    episode: Mapping[str, Any],
    min_steps: int,
    low: Tensor | None,
    high: Tensor | None,
) -> dict[str, Any]:
    """One checked episode: tensors by key, None where a key is absent."""
    if not isinstance(episode, Mapping):
        found = type(episode).__name__
        raise TypeError(f"{name}: expected a mapping with 'obs', found {found}")
    needed = NEEDED[source]
    if set(episode) - KEYS or not needed <= set(episode):
        raise ValueError(
            f"{name}: expected keys {sorted(needed)} and optionally {sorted(KEYS - needed)}, "
            f"found {sorted(map(str, episode))}"
        )
    obs = to_tensor(f"{name}['obs']", episode["obs"], 2)
    if obs.shape[1] == 0:
        raise ValueError(f"{name}['obs']: expected one or more columns, found {tuple(obs.shape)}")
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
    checked = {"obs": obs, "terminal": bool(terminal), "action": None, "reward": None}
    if source == "expert":
        if "action" in episode:  # may be anything: who learns from it looks at it
            action = _rows(f"{name}['action']", episode["action"], 2, steps, finite=False)
            checked["action"] = _to_unit(f"{name}['action']", action, low, high)
    else:
        action = _rows(f"{name}['action']", episode["action"], 2, steps)
        checked["action"] = _unit_action(f"{name}['action']", action, low, high)
        if "reward" in episode:
            checked["reward"] = _rows(f"{name}['reward']", episode["reward"], 1, steps)
    return checked


def _rows(name: str, value: Any, ndim: int, steps: int, *, finite: bool = True) -> Tensor:
    """One row per step. Rewards may be nan: what learns from them refuses it."""
    tensor = to_tensor(name, value, ndim, finite=finite and ndim > 1)
    if len(tensor) != steps or 0 in tensor.shape:
        raise ValueError(
            f"{name}: expected {steps} rows, one fewer than the {steps + 1} observations, found "
            f"shape {tuple(tensor.shape)}"
        )
    return tensor


def _to_unit(name: str, action: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Actions mapped from [low, high] to [-1, 1]."""
    if low is None or high is None:
        return action
    if action.shape[1] != len(low):
        raise ValueError(
            f"{name}: expected width {len(low)} as action_low has, found {action.shape[1]}"
        )
    return 2.0 * (action - low) / (high - low) - 1.0


def _unit_action(name: str, action: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """The same, and none is outside."""
    action = _to_unit(name, action, low, high)
    worst = action.abs().max() if action.numel() else torch.zeros(())
    if worst > 1.0 + 1e-5:
        step, dim = divmod(int(action.abs().argmax()), action.shape[1])
        bounds = "[-1, 1]" if low is None else "[action_low, action_high]"
        raise ValueError(
            f"{name}: expected actions within {bounds}, found {float(action[step, dim]):.6g} (on "
            f"the [-1, 1] scale) at step {step}, dimension {dim}; clip them, or pass action_low "
            "and action_high"
        )
    return action.clamp(-1.0, 1.0)
