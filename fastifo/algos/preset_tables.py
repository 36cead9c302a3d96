"""Field values that several presets share: of rewards per domain, of IQL's variants, of ReBRAC per
dataset. `fastifo/algos/presets.py` names their sources.
"""

from typing import Any

ADROIT = ("pen", "door", "hammer", "relocate")
# (method, domain) -> how it makes its rewards there, with any backbone. Source: the authors' code.
REWARD_FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    ("seabo", "adroit"): {"divides_by_actions": False},
    ("seabo", "antmaze"): {"reward_slope": 5.0},
    ("seabo", "hopper"): {"reward_scaling": "none"},
    ("otr", "antmaze"): {"reward_slope": 1.0, "divides_by_observations": False},
}
IQL_ANTMAZE: dict[str, Any] = {
    "inverse_temperature": 10.0, "expectile": 0.9, "reward_scaling": "none", "reward_shift": -1.0,
}  # fmt: skip
# IQL as its authors' JAX code has it, and as a port of that code to PyTorch (SEABO's) has it.
IQL_PORT: dict[str, Any] = {
    "standardize_obs": False, "value_first": True, "sums_critic_errors": True,
}  # fmt: skip
IQL_JAX: dict[str, Any] = IQL_PORT | {
    "init": "orthogonal", "narrow_log_std": True, "reward_scaling": "return_range",
}  # fmt: skip
OTR_COST: dict[str, Any] = {"standardizes_cost": False}
SEABO_IQL: dict[str, Any] = IQL_PORT | {"policy_head": "deterministic"}
# Environment -> ReBRAC's settings that do not depend on the dataset.
REBRAC_RATES: dict[str, dict[str, Any]] = {
    **{
        env: {"batch_size": 256, "learning_rate": 3e-4, "critic_learning_rate": 3e-4}
        for env in ADROIT
    },
    "antmaze": {
        "batch_size": 256, "learning_rate": 3e-4, "critic_learning_rate": 5e-5, "gamma": 0.999,
        "reward_multiplier": 100.0,
    },
}  # fmt: skip
# (environment, dataset) -> policy_penalty, critic_penalty. Source: the authors' configs in CORL;
# an early version of their own repository has others for some datasets.
REBRAC_PENALTIES = {
    (env, kind): pair
    for kind, row in {
        "random": {"halfcheetah": (0.001, 0.1), "hopper": (0.001, 0.01), "walker2d": (0.01, 0.0)},
        "medium": {"halfcheetah": (0.001, 0.01), "hopper": (0.01, 0.01), "walker2d": (0.05, 0.1)},
        "expert": {"halfcheetah": (0.01, 0.01), "hopper": (0.1, 0.1), "walker2d": (0.01, 0.5)},
        "medium-expert": {
            "halfcheetah": (0.01, 0.1), "hopper": (0.1, 0.01), "walker2d": (0.01, 0.01),
        },
        "medium-replay": {
            "halfcheetah": (0.01, 0.001), "hopper": (0.05, 0.5), "walker2d": (0.05, 0.01),
        },
        "full-replay": {
            "halfcheetah": (0.001, 0.1), "hopper": (0.01, 0.01), "walker2d": (0.01, 0.01),
        },
        "human": {
            "pen": (0.1, 0.5), "door": (0.1, 0.1), "hammer": (0.01, 0.5), "relocate": (0.1, 0.01),
        },
        "cloned": {
            "pen": (0.05, 0.5), "door": (0.01, 0.1), "hammer": (0.1, 0.5), "relocate": (0.1, 0.01),
        },
        "adroit-expert": {
            "pen": (0.01, 0.01), "door": (0.05, 0.01), "hammer": (0.01, 0.01),
            "relocate": (0.05, 0.01),
        },
        "umaze": {"antmaze": (0.003, 0.002)},
        "umaze-diverse": {"antmaze": (0.003, 0.001)},
        "medium-play": {"antmaze": (0.001, 0.0005)},
        "medium-diverse": {"antmaze": (0.001, 0.0)},
        "large-play": {"antmaze": (0.002, 0.001)},
        "large-diverse": {"antmaze": (0.002, 0.002)},
    }.items()
    for env, pair in row.items()
}  # fmt: skip
