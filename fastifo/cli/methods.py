"""One subcommand per algorithm, with one flag per field of its config."""

import dataclasses
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import tyro

from fastifo.algos import ALGORITHMS, BACKBONES
from fastifo.algos.config import FOLDERS, field_help
from fastifo.algos.learner import Learner
from fastifo.algos.presets import preset_sources
from fastifo.cli.help import choice_of, summary
from fastifo.cli.lists import LISTS

BACKBONE_NAMES = {"iql": "IQL", "rebrac": "ReBRAC"}
SWEPT_TYPES = (float, int, str)  # a field of these types takes several values on the command line


def make_flags(learner_class: type[Learner], backbone: str) -> Any:
    """A dataclass with the fields of the algorithm's config, and `overrides()`.

    backbone: the method that learns from the algorithm's rewards; empty for other algorithms.
    """
    help_texts = field_help(learner_class.Config)
    hints: dict[str, Any] = get_type_hints(learner_class.Config)
    fields: list[Any] = []
    for field in dataclasses.fields(learner_class.Config):
        if field.name == "backbone":
            continue
        hint = hints[field.name]
        swept = hint in SWEPT_TYPES
        entry = hint if swept else next(iter(get_args(hint)), None)  # of a list
        flag_type = LISTS.get(entry, hint)
        if field.name in FOLDERS:
            flag_type = tuple[str, ...]  # a path may have commas
        annotated: Any = Annotated[flag_type, tyro.conf.arg(help=help_texts[field.name])]
        default = (field.default,) if swept else field.default
        fields.append((field.name, annotated, dataclasses.field(default=default)))
    paragraphs = _summary(learner_class, backbone), _preset_notes(learner_class, backbone)
    namespace = {
        "algorithm": learner_class.name,
        "__doc__": "\n\n".join(paragraphs),
        "overrides": lambda flags: _overrides(flags, learner_class, backbone),
    }
    return dataclasses.make_dataclass(learner_class.name, fields, frozen=True, namespace=namespace)


def _summary(learner_class: type[Learner], backbone: str) -> str:
    """The first paragraph of the algorithm's module, and what distinguishes the algorithm there."""
    text = summary(sys.modules[learner_class.__module__])
    if backbone:
        return f"{text} {BACKBONE_NAMES[backbone]} learns from the rewards."
    names = [
        name for name, other in ALGORITHMS.items() if other.__module__ == learner_class.__module__
    ]
    return f"{text} {summary(learner_class)}" if len(names) > 1 else text


def _preset_notes(learner_class: type[Learner], backbone: str) -> str:
    """A list of the algorithm's presets; those of one source share an entry."""
    names: dict[str, list[str]] = {}
    for name, source in preset_sources(learner_class.name, backbone or None).items():
        names.setdefault(source, []).append(name)
    entries = [f"{', '.join(group)}: {source}" for source, group in names.items()]
    lines = ["Presets of this algorithm (--preset):"]
    for entry in entries:
        lines += textwrap.wrap(
            entry, 78, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
        )
    return "\n".join(lines)


def _overrides(flags: Any, learner_class: type[Learner], backbone: str) -> dict[str, Any]:
    """The fields that differ from their defaults, as `fastifo.train` takes them."""
    defaults, hints = type(flags)(), get_type_hints(learner_class.Config)
    overrides: dict[str, Any] = {"backbone": backbone} if backbone else {}
    for name, value in vars(flags).items():
        if value != getattr(defaults, name):
            overrides[name] = list(value) if hints[name] in SWEPT_TYPES else value
    return overrides


def all_flags() -> dict[str, Any]:
    """Flags by name of the subcommand: one per algorithm and per further backbone of it."""
    flags = {}
    for name, learner_class in ALGORITHMS.items():
        (backbone, first_class), *others = BACKBONES.get(name, {"": learner_class}).items()
        flags[name] = make_flags(first_class, backbone)
        for other_backbone, other_class in others:
            flags[f"{name}-{other_backbone}"] = make_flags(other_class, other_backbone)
    return flags


METHODS = all_flags()
REWARD_METHODS = {name: flags for name, flags in METHODS.items() if flags.algorithm in BACKBONES}

if TYPE_CHECKING:
    Method = Any
    RewardMethod = Any
else:
    Method = choice_of(METHODS)
    RewardMethod = choice_of(REWARD_METHODS)
