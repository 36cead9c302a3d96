"""Several sources as one dataset: an expert's and a background's, or several files as one part."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.formats.actions import ROUNDING, from_unit, to_unit
from fastifo.data.formats.robosuite import check_same_layout
from fastifo.data.specs import is_pack, load_spec
from fastifo.utils.records import same

NO_ENV = "none"  # as `env_id`
LEFT_OUT = "files left out because they cannot be read"


def load_all(
    specs: Sequence[str | Path], stated: dict[str, Any], progress: bool, env_id: str | None = None
) -> Dataset:
    """The datasets of several specs as one: their backgrounds, and their experts if they have some.

    stated: options that were given as arguments of `load`.
    env_id: of the result's environment, so that the specs may name different ones.
    Raises ValueError naming the spec whose episodes do not fit the first one's.
    """
    if not specs:
        raise ValueError("dataset: expected one or more files or specs, found an empty list")
    parts: dict[str, Dataset] = {}
    errors = []
    for spec in specs:
        if str(spec) in parts:
            raise ValueError(f"{spec}: expected different files, found this one twice")
        try:
            parts[str(spec)] = load_spec(spec, stated, progress)
        except ValueError as error:
            if not stated.get("skip_bad"):
                raise
            errors.append(error)
    if not parts:
        raise errors[0]
    datasets = list(parts.values())
    notes: dict[str, int] = {LEFT_OUT: len(errors)} if errors else {}
    for dataset in datasets:
        given = dataset.info.get("notes")  # of a pack it can be anything
        for name, count in given.items() if isinstance(given, dict) else ():
            notes[name] = notes.get(name, 0) + (count if isinstance(count, int) else 0)
    if len(datasets) == 1:
        (dataset,) = datasets
        return dataset if not errors else _noted(dataset, dict(dataset.info), notes)
    first = datasets[0]
    for name, dataset in parts.items():
        _check_fits(name, dataset, first, env_id)
    experts = [
        _rescaled(d.expert, d, first).without_rewards() for d in datasets if d.expert is not None
    ]
    backgrounds = [_in_bounds(name, _rescaled(d.background, d, first)) for name, d in parts.items()]
    joined = dataclasses.replace(
        first,
        background=_joined(backgrounds, notes),
        expert=_joined(experts, notes) if experts else None,
        unverified=tuple(path for dataset in datasets for path in dataset.unverified),
    )
    info = {"files": [{k: v for k, v in d.info.items() if k != "notes"} for d in datasets]}
    return _noted(joined, {"spec": list(parts), **info}, notes)


def _noted(dataset: Dataset, info: dict[str, Any], notes: dict[str, int]) -> Dataset:
    return dataclasses.replace(dataset, info=info | ({"notes": notes} if notes else {}))


def _check_fits(name: str, dataset: Dataset, first: Dataset, env_id: str | None) -> None:
    """Raises ValueError unless the episodes of two datasets can be of one part."""
    found, expected = (
        {
            "observations of width": d.obs_dim,
            "actions of width": d.action_dim,
            "entries of the observation": d.obs_keys,
            "cameras": sorted(d.images),
            "environment": d.env_id if env_id is None else env_id,
            "settings of the environment": dict(d.env_kwargs) if env_id is None else {},
        }
        for d in (dataset, first)
    )
    for what, value in found.items():
        if value != expected[what]:
            raise ValueError(
                f"{name}: {what} {value} do not fit those of the first file, {expected[what]}"
            )


def _in_bounds(name: str, episodes: Episodes) -> Episodes:
    """The episodes.  Raises ValueError if their actions exceed the bounds of the first file's."""
    if episodes.action is not None and float(episodes.action.abs().max()) > 1.0 + ROUNDING:
        raise ValueError(
            f"{name}: its actions are outside the bounds of the first file's; pass action_low and "
            "action_high, which then hold for all files"
        )
    return episodes


def _joined(parts: list[Episodes], notes: dict[str, int]) -> Episodes:
    """The episodes of all parts; rewards and successes that not all of them have are dropped."""
    for column in ("reward", "action"):
        lacking = sum(getattr(part, column) is None for part in parts)
        if 0 < lacking < len(parts):
            notes[f"files without {column}s, so that those of the others are dropped"] = lacking
            without: dict[str, Any] = {column: None}
            parts = [dataclasses.replace(part, **without) for part in parts]
    return Episodes.joined(parts)


def with_expert(
    expert: Sequence[str | Path],
    background: Sequence[str | Path],
    env_id: str | None,
    stated: dict[str, Any],
    progress: bool,
) -> Dataset:
    """One source's expert episodes with another's background."""
    expert_is_pack, background_is_pack = (all(map(is_pack, x)) for x in (expert, background))
    for_base = {} if background_is_pack and not expert_is_pack else stated
    base = load_all(background, for_base, progress, env_id)
    source = load_all(expert, {} if expert_is_pack else stated, progress, env_id)
    expert_text, background_text = (" ".join(map(str, specs)) for specs in (expert, background))
    demos = source.expert or source.background
    if demos.obs_dim != base.obs_dim:
        raise ValueError(
            f"expert {expert_text}: observations have width {demos.obs_dim}, those of the "
            f"background {background_text} {base.obs_dim}; both must come from the same "
            "observation space"
        )
    if source.env_id and base.env_id and source.env_id != base.env_id and env_id is None:
        raise ValueError(
            f"expert {expert_text} is from {source.env_id}, background {background_text} from "
            f"{base.env_id}; if they share observations, name the environment to evaluate in with "
            "env_id"
        )
    check_same_layout(
        (expert_text, source.env_id, source.env_kwargs), (base.env_id, base.env_kwargs)
    )
    settings, others = base.env_kwargs or source.env_kwargs, source.env_kwargs
    info: dict[str, Any] = {"background": dict(base.info), "expert": dict(source.info)}
    differing = [name for name in {*settings, *others} if settings.get(name) != others.get(name)]
    if others and differing:
        info["notes"] = {"settings of the expert's environment that differ": len(differing)}
    return dataclasses.replace(
        base,
        expert=_rescaled(demos.without_rewards(), source, base),
        env_id=named(env_id or base.env_id or source.env_id),
        env_kwargs=settings,
        reference_returns=base.reference_returns or source.reference_returns,
        info=info,
    )


def named(env_id: str | None) -> str | None:
    """The environment that an argument `env_id` names."""
    return None if env_id == NO_ENV else env_id


def _rescaled(demos: Episodes, source: Dataset, base: Dataset) -> Episodes:
    """The expert's episodes with their actions on the background's scale."""
    bounds = [(d.action_low, d.action_high) for d in (source, base)]
    if demos.action is None or same(*bounds) or demos.action.shape[1] != base.action_dim:
        return demos
    action = demos.action
    for convert, (low, high) in zip((from_unit, to_unit), bounds, strict=True):
        if low is not None and high is not None:
            action = convert(action, low, high)
    return dataclasses.replace(demos, action=action)
