"""Published settings that differ from a method's defaults, each with its source.

`fastifo.train(..., preset="orig")`. Without a preset a method runs as in the VfO study on D4RL
(arXiv 2507.06701, hyperparameter table); fields given beside a preset come first.
"""

import math
from dataclasses import dataclass
from typing import Any

from fastifo.config import nearest

PLAIN: dict[str, Any] = {"encoder_scales": (), "hidden_sizes": (256, 256)}


@dataclass(frozen=True)
class Recipe:
    fields: dict[str, Any]
    source: str


ROBOMIMIC = Recipe(
    {"hidden_sizes": (1024, 1024), "weight_decay": 0.1},
    "arXiv 2507.06701, hyperparameter table, column Robomimic",
)

RECIPES: dict[tuple[str, str], Recipe] = {
    ("bc", "orig"): Recipe(
        PLAIN | {"policy_head": "deterministic", "standardize_obs": True},
        "CORL's any_percent_bc: squared error, tanh output, observations standardised",
    ),
    ("awr", "true_mdp"): Recipe(
        {"absorbing": False}, "a terminal is worth its reward alone, as in the task itself"
    ),
    ("smodice", "orig"): Recipe(
        PLAIN
        | {
            "batch_size": 512,
            "policy_head": "gaussian",
            "entropy_constraint": True,
            "standardize_obs": True,
            "absorbing_indicator": True,
            "normalizes": False,
            "max_weight": math.inf,
            "logit_clamp": math.inf,
            "value_weight_decay": 1e-4,
            "decoupled_weight_decay": False,
            "disc_updates": 4_000,
            "disc_activation": "tanh",
            "gradient_penalty": 10,
        },
        "Ma et al. 2022, arXiv:2202.02433, the authors' code; trained for 1e6 updates",
    ),
    ("dilo", "orig"): Recipe(
        PLAIN
        | {
            "batch_size": 1024,
            "policy_head": "deterministic",
            "orthogonal": True,
            "residual_share": 0.8,
            "inverse_temperature": 0.06,
            "policy_learning_rate": 1e-4,
            "policy_decay_updates": 1_000_000,
        },
        "Sikchi et al. 2024, arXiv:2406.08805, the authors' code; trained for 3e5 updates",
    ),
    **{
        (name, "robomimic"): Recipe(ROBOMIMIC.fields | {"temperature": 0.1}, ROBOMIMIC.source)
        for name in ("awr", "vfo_bin", "vfo_disc", "sqil", "oril")
    },
    **{(name, "robomimic"): ROBOMIMIC for name in ("bc", "bco", "smodice", "dilo")},
}


def fields_of(algorithm: str, preset: str) -> dict[str, Any]:
    """The fields a preset sets; `vfo`, the default, sets none.  Raises ValueError for another."""
    if preset == "vfo":
        return {}
    if (algorithm, preset) not in RECIPES:
        known = ["vfo", *(name for owner, name in RECIPES if owner == algorithm)]
        raise ValueError(f"{algorithm} has no preset {preset!r}; {nearest(preset, known)}")
    return dict(RECIPES[algorithm, preset].fields)
