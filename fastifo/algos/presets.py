"""Presets: published settings that differ from a method's defaults, each with its source.

Without a preset (or with `vfo`, the default) a method has the settings of the VfO study on D4RL
(arXiv 2507.06701, hyperparameter table), or the defaults of its own paper if it is not part of the
study. A preset sets some fields on top of that; fields given explicitly override the preset:

    fastifo.train("smodice", dataset, preset="orig", gamma=0.98)      # --preset orig --gamma 0.98

| preset | methods | settings |
| --- | --- | --- |
| `orig` | bc, bco, smodice, lobsdice, pw_dice, dilo, tailo, seabo, otr | authors' or usual code |
| `jax` | iql, tge, seabo, otr | the authors' code of IQL on MuJoCo, where `iql` follows CORL |
| `robomimic` | the methods of the VfO study | the study's column for Robomimic |
| `robomimic-image` | the same | the same, for data with images; the paper gives no encoder |
| `true_mdp` | awr | no absorbing bootstrap at terminals |
| `adroit`, `antmaze` | iql, tge, seabo, otr | CORL's for these domains; seabo, otr: the authors' |
| `hopper-medium-expert`, ... | iql, tge, seabo, otr | CORL's settings for single datasets |
| `<environment>-<dataset>` | rebrac, and tge, seabo, otr with it | penalties per dataset |

A method with a backbone (tge, seabo, otr) has its own presets and those of iql, or with
`backbone="rebrac"` those of rebrac; tge and otr scale the rewards that they make unless a preset
sets `reward_scaling`. A preset never sets the number of updates.

On Robomimic the study averages evaluations over the last half of training:
`Run.evaluate(protocol="last_half")`. It does not say whether success ends the task, after which
nothing is bootstrapped; here it does. For the other reading generate data with
`env.success_terminal=false` in their spec, and read files with `dones=timeout`.
"""

import math
from dataclasses import dataclass
from typing import Any

from fastifo.algos import BACKBONES
from fastifo.algos.preset_tables import (
    ADROIT,
    IQL_ANTMAZE,
    IQL_JAX,
    OTR_COST,
    REBRAC_PENALTIES,
    REBRAC_RATES,
    REWARD_FIELDS,
    SEABO_IQL,
)
from fastifo.utils.text import did_you_mean


@dataclass(frozen=True)
class Preset:
    """Field values that a method is trained with, and where they are published."""

    fields: dict[str, Any]  # config field -> value
    source: str  # paper or code that publishes them


# Raw observations and nets of 256 units, which the originals share.
ORIGINAL_NETS: dict[str, Any] = {"encoder_scales": (), "hidden_sizes": (256, 256)}
ROBOMIMIC = Preset(
    {"hidden_sizes": (1024, 1024), "weight_decay": 0.1},
    "arXiv 2507.06701, hyperparameter table, column Robomimic",
)
ROBOMIMIC_IMAGE = Preset(
    ROBOMIMIC.fields | {"image_encoder": "drqv2", "image_features": 50, "image_shift": 4},
    f"{ROBOMIMIC.source}; the paper does not say how it encodes images: encoder, width and shift "
    "are those of Yarats et al. 2021, arXiv:2107.09645 (DrQ-v2)",
)

PRESETS: dict[tuple[str, str], Preset] = {
    ("bc", "orig"): Preset(
        ORIGINAL_NETS | {"policy_head": "deterministic", "standardize_obs": True},
        "CORL's any_percent_bc: squared error, tanh output, standardised observations; `top_share` "
        "is 1, CORL's `frac` 0.1",
    ),
    ("bco", "orig"): Preset(
        ORIGINAL_NETS | {"policy_head": "gaussian", "clones": "expert"},
        "Torabi et al. 2018, arXiv:1805.01954, BCO(0), without interaction: Gaussian actions, the "
        "mode as label, only the expert cloned; net sizes of the other originals",
    ),
    ("awr", "true_mdp"): Preset(
        {"absorbing": False}, "the value of a terminal is its reward, as in the task itself"
    ),
    ("smodice", "orig"): Preset(
        ORIGINAL_NETS
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
            "disc_frozen_layer": True,
            "disc_init": "fan_in_uniform",
            "init": "xavier_uniform",
            "gradient_penalty": 10,
        },
        "Ma et al. 2022, arXiv:2202.02433, the authors' code, which trains for 1e6 updates and "
        "only the last two layers of its discriminator",
    ),
    ("lobsdice", "orig"): Preset(
        ORIGINAL_NETS
        | {
            "batch_size": 512,
            "policy_head": "gaussian",
            "standardize_obs": True,
            "joint": True,
            "bootstraps_terminals": True,
            "max_weight": math.inf,
            "logit_clamp": math.inf,
            "init": "he_normal",
        },
        "Kim et al. 2022, arXiv:2202.13536, the authors' code, which trains for 2e6 updates",
    ),
    ("pw_dice", "orig"): Preset(
        ORIGINAL_NETS
        | {
            "batch_size": 1024,
            "gamma": 0.999,
            "policy_head": "gaussian",
            "policy_learning_rate": 1e-3,
            "standardize_obs": True,
            "max_weight": math.inf,
            "logit_clamp": math.inf,
            "disc_updates": 40_000,
            "disc_batch_size": 512,
            "disc_activation": "tanh",
            "gradient_penalty": 10,
            "embedding_updates": 50_000,
            "embedding_batch_size": 4096,
        },
        "Yan et al. 2024, arXiv:2311.01331, the authors' code, which trains for 1,050,000 updates "
        "and its encoder for 200 passes over the data: 50,000 updates are those over 1e6 rows",
    ),
    ("dilo", "orig"): Preset(
        ORIGINAL_NETS
        | {
            "batch_size": 1024,
            "policy_head": "deterministic",
            "orthogonal": True,
            "residual_share": 0.8,
            "inverse_temperature": 0.06,
            "policy_learning_rate": 1e-4,
            "policy_decay_updates": 1_000_000,
        },
        "Sikchi et al. 2024, arXiv:2406.08805, the authors' code, which trains for 3e5 updates",
    ),
    ("tailo", "orig"): Preset(
        ORIGINAL_NETS
        | {
            "batch_size": 8192,
            "learning_rate": 1e-4,
            "policy_weight_decay": 1e-5,
            "decoupled_weight_decay": False,
            "policy_head": "gaussian",
            "standardize_obs": True,
            "disc_batch_size": 512,
            "disc_activation": "tanh",
        },
        "Yan et al. 2023, arXiv:2311.01329, the authors' code, which trains for about 1e6 updates",
    ),
    ("iql", "adroit"): Preset(
        {"expectile": 0.8, "policy_dropout": 0.1, "reward_scaling": "none"},
        "CORL's iql, Adroit: expectile 0.8, dropout 0.1 (which CORL's policy ignores), unscaled "
        "rewards",
    ),
    ("iql", "jax"): Preset(
        IQL_JAX, "Kostrikov et al. 2021, arXiv:2110.06169, the authors' JAX code on MuJoCo"
    ),
    ("seabo", "orig"): Preset(
        SEABO_IQL,
        "Lyu et al. 2024, arXiv:2402.03807, the authors' code on MuJoCo, where actions count in "
        "the distance too by default",
    ),
    ("seabo", "adroit"): Preset(
        SEABO_IQL
        | {"inverse_temperature": 0.5, "policy_dropout": 0.1}
        | REWARD_FIELDS["seabo", "adroit"],
        "Lyu et al. 2024, arXiv:2402.03807, the authors' code on Adroit",
    ),
    ("otr", "orig"): Preset(
        IQL_JAX | OTR_COST, "Luo et al. 2023, arXiv:2303.13971, the authors' code on MuJoCo"
    ),
    ("otr", "adroit"): Preset(
        IQL_JAX | OTR_COST | {"inverse_temperature": 0.5, "policy_dropout": 0.1},
        "Luo et al. 2023, arXiv:2303.13971, the authors' code on Adroit",
    ),
    ("iql", "antmaze"): Preset(IQL_ANTMAZE, "CORL's iql, AntMaze: rewards minus 1"),
    ("seabo", "antmaze"): Preset(
        SEABO_IQL | IQL_ANTMAZE | REWARD_FIELDS["seabo", "antmaze"],
        "Lyu et al. 2024, arXiv:2402.03807, the authors' code on AntMaze",
    ),
    ("otr", "antmaze"): Preset(
        IQL_JAX
        | OTR_COST
        | IQL_ANTMAZE
        | REWARD_FIELDS["otr", "antmaze"]
        | {"reward_scaling": "return_range", "reward_shift": -2.0},
        "Luo et al. 2023, arXiv:2303.13971, the authors' code on AntMaze",
    ),
    ("iql", "hopper-medium-expert"): Preset(
        {"inverse_temperature": 6.0, "expectile": 0.5},
        "CORL's iql, hopper medium-expert: unscaled rewards",
    ),
    **{
        ("iql", f"hopper-{kind}"): Preset(
            {"policy_head": "deterministic", "polyak": 0.001, "reward_scaling": "return_range"},
            f"CORL's iql, hopper {kind}: scaled rewards",
        )
        for kind in ("medium", "medium-replay")
    },
    **{
        ("rebrac", f"{env}-{kind.removeprefix('adroit-')}"): Preset(
            {"policy_penalty": policy, "critic_penalty": critic} | REBRAC_RATES.get(env, {}),
            "Tarasov et al. 2023, arXiv:2305.09836, the authors' settings per dataset",
        )
        for (env, kind), (policy, critic) in REBRAC_PENALTIES.items()
    },
    **{
        (name, preset): Preset(base.fields | {"temperature": 0.1}, base.source)
        for name in ("awr", "vfo_bin", "vfo_disc", "sqil", "oril")
        for preset, base in (("robomimic", ROBOMIMIC), ("robomimic-image", ROBOMIMIC_IMAGE))
    },
    **{
        (name, preset): base
        for name in ("bc", "bco", "smodice", "lobsdice", "pw_dice", "dilo")
        for preset, base in (("robomimic", ROBOMIMIC), ("robomimic-image", ROBOMIMIC_IMAGE))
    },
}


def preset_fields(algorithm: str, preset: str, backbone: Any = None) -> dict[str, Any]:
    """The fields that a preset sets; `vfo`, the default, sets none.

    algorithm: a name in `ALGORITHMS`.  backbone: of tge, seabo and otr; None is iql.
    Raises ValueError for an unknown preset, naming the nearest one.
    """
    if preset == "vfo":
        return {}
    owners = _owners(algorithm, backbone)
    for owner in owners:
        if (owner, preset) in PRESETS:
            env = preset.partition("-")[0]
            return PRESETS[owner, preset].fields | REWARD_FIELDS.get(
                (algorithm, "adroit" if env in ADROIT else env), {}
            )
    known = ["vfo", *(name for owner, name in PRESETS if owner in owners)]
    raise ValueError(f"{algorithm} has no preset {preset!r}; {did_you_mean(preset, known)}")


def preset_sources(algorithm: str, backbone: Any = None) -> dict[str, str]:
    """The source of each preset that `preset_fields` knows for an algorithm, by name."""
    sources = {"vfo": "the defaults"}
    for owner in _owners(algorithm, backbone):
        for (name, preset), value in PRESETS.items():
            if name == owner:
                sources.setdefault(preset, value.source)
    return sources


def _owners(algorithm: str, backbone: Any) -> list[str]:
    """The algorithms whose presets apply, the first one with precedence."""
    if algorithm not in BACKBONES:
        return [algorithm]
    return [algorithm, "iql"] if backbone in (None, "iql") else [backbone]
