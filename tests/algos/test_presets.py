"""Presets set fields that their methods have, to the published values, and train."""

import pytest

import fastifo
from engine.runs import QUIET, short
from fastifo.algos import ALGORITHMS, find
from fastifo.algos.config import expand
from fastifo.algos.presets import PRESETS, preset_fields
from helpers import random_dataset


@pytest.mark.parametrize("key", sorted(PRESETS), ids=str)
def test_a_preset_is_a_config_of_its_method(key: tuple[str, str]) -> None:
    name, preset = key
    (config,) = expand(find(name).Config, preset_fields(name, preset))
    assert vars(config).items() >= preset_fields(name, preset).items()
    assert preset_fields(name, preset)
    assert PRESETS[key].source


STUDY = ("bc", "awr", "vfo_bin", "vfo_disc", "bco", "smodice", "lobsdice", "dilo", "oril", "sqil")
TABLE = {  # the study's hyperparameters on D4RL, for the methods that have them
    "learning_rate": 3e-4, "policy_learning_rate": 3e-4, "batch_size": 256, "num_bins": 101,
    "hidden_sizes": (512, 512), "weight_decay": 0.0, "target_period": 200, "temperature": 1.0,
    "gamma": 0.99, "alpha": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", STUDY)
def test_defaults_are_those_of_the_studys_table(name: str) -> None:
    config = vars(find(name).Config())
    expected = TABLE | ({"alpha": 0.9} if name == "sqil" else {})  # the study's best
    assert config.items() >= {k: v for k, v in expected.items() if k in config}.items()
    robomimic = preset_fields(name, "robomimic")
    assert robomimic["hidden_sizes"] == (1024, 1024)
    assert robomimic["weight_decay"] == 0.1
    assert robomimic.get("temperature") == (0.1 if "temperature" in config else None)


IQL = {
    "batch_size": 256, "hidden_sizes": (256, 256), "learning_rate": 3e-4, "encoder_scales": (),
    "policy_head": "normal", "gamma": 0.99, "expectile": 0.7, "inverse_temperature": 3.0,
    "max_weight": 100.0, "polyak": 0.005, "policy_dropout": 0.0, "policy_decay_updates": 1_000_000,
    "standardize_obs": True, "reward_scaling": "none", "absorbing": False,
}  # fmt: skip
REBRAC = {
    "batch_size": 1024, "hidden_sizes": (256, 256, 256), "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3, "encoder_scales": (), "policy_head": "deterministic",
    "gamma": 0.99, "policy_noise": 0.2, "noise_clip": 0.5, "normalizes_q": True,
    "critic_layer_norm": True, "polyak": 0.005, "standardize_obs": False, "absorbing": False,
    "reward_scaling": "none",
}  # fmt: skip
TGE = {
    "horizon": 32, "unet_width": 32, "diffusion_steps": 20, "diffusion_updates": 200_000,
    "diffusion_learning_rate": 2e-4, "diffusion_batch_size": 256, "ema_decay": 0.995,
    "ema_start": 2000, "mask_share": 0.5, "tge_reward": "kernel_of_mean", "sigma": 1.0,
    "neighbours": 5, "sphere": True, "placement": "starts",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iql", IQL),
        ("rebrac", REBRAC),
        ("tge", IQL | TGE | {"reward_scaling": "return_range"}),
        ("tge-rebrac", REBRAC | TGE),
        ("seabo", {
            "neighbours": 1, "reward_factor": 1.0, "reward_slope": 0.5, "divides_by_actions": True,
            "reward_scaling": "none",
        }),
        ("otr", {
            "reward_factor": 5.0, "reward_slope": 5.0, "sinkhorn_epsilon": 0.01,
            "sinkhorn_iterations": 100, "divides_by_observations": True,
            "reward_scaling": "return_range",
        }),
    ],
)  # fmt: skip
def test_defaults_are_those_of_the_paper(name: str, expected: dict[str, object]) -> None:
    plain, _, backbone = name.partition("-")
    config = vars(find(plain, backbone or None).Config())
    assert {k: config[k] for k in expected} == expected


@pytest.mark.parametrize(
    ("name", "preset", "expected"),
    [
        ("smodice", "orig", {
            "hidden_sizes": (256, 256), "batch_size": 512, "disc_activation": "tanh",
            "gradient_penalty": 10, "value_weight_decay": 1e-4, "normalizes": False,
            "policy_head": "gaussian", "standardize_obs": True, "absorbing_indicator": True,
            "init": "xavier_uniform", "disc_init": "fan_in_uniform", "disc_frozen_layer": True,
        }),
        ("lobsdice", "orig", {
            "hidden_sizes": (256, 256), "batch_size": 512, "kl_weight": 0.1, "joint": True,
            "joint_gradient_penalty": 0.1, "value_gradient_penalty": 1e-4, "learning_rate": 3e-4,
            "disc_learning_rate": 3e-4, "policy_head": "gaussian", "init": "he_normal",
        }),
        ("pw_dice", "orig", {
            "hidden_sizes": (256, 256), "batch_size": 1024, "gamma": 0.999, "temperature": 0.5,
            "coupling_temperature": 0.5, "distance_scale": 5.0, "ratio_scale": 1.0,
            "learning_rate": 3e-4, "policy_learning_rate": 1e-3, "gradient_penalty": 10,
            "embedding_hidden_sizes": (128, 128), "embedding_dim": 32, "disc_updates": 40_000,
        }),
        ("dilo", "orig", {
            "hidden_sizes": (256, 256), "batch_size": 1024, "policy_learning_rate": 1e-4,
            "inverse_temperature": 0.06, "residual_share": 0.8, "policy_head": "deterministic",
        }),
        ("bco", "orig", {"clones": "expert", "policy_head": "gaussian"}),
        ("iql", "adroit", {"expectile": 0.8, "policy_dropout": 0.1, "reward_scaling": "none"}),
        ("iql", "hopper-medium-expert", {"inverse_temperature": 6.0, "expectile": 0.5}),
        ("iql", "hopper-medium-replay", {"policy_head": "deterministic", "polyak": 0.001}),
        ("seabo", "adroit", {
            "inverse_temperature": 0.5, "policy_dropout": 0.1, "divides_by_actions": False,
        }),
        ("otr", "adroit", {"inverse_temperature": 0.5, "policy_dropout": 0.1}),
        ("iql", "antmaze", {
            "inverse_temperature": 10.0, "expectile": 0.9, "reward_scaling": "none",
            "reward_shift": -1.0,
        }),
        ("seabo", "antmaze", {"reward_slope": 5.0, "reward_shift": -1.0, "expectile": 0.9}),
        ("otr", "antmaze", {
            "reward_slope": 1.0, "divides_by_observations": False, "reward_shift": -2.0,
            "reward_scaling": "return_range", "inverse_temperature": 10.0,
        }),
        ("rebrac", "antmaze-medium-play", {
            "policy_penalty": 0.001, "critic_penalty": 0.0005, "gamma": 0.999, "batch_size": 256,
            "learning_rate": 3e-4, "critic_learning_rate": 5e-5, "reward_multiplier": 100.0,
        }),
        ("iql", "jax", {
            "standardize_obs": False, "init": "orthogonal", "narrow_log_std": True,
            "value_first": True, "sums_critic_errors": True, "reward_scaling": "return_range",
        }),
        ("otr", "orig", {
            "standardize_obs": False, "init": "orthogonal", "value_first": True,
            "reward_scaling": "return_range", "standardizes_cost": False,
        }),
        ("otr", "adroit", {"narrow_log_std": True, "reward_scaling": "return_range"}),
        ("seabo", "orig", {"policy_head": "deterministic", "value_first": True}),
        ("rebrac", "door-human", {"learning_rate": 3e-4, "critic_learning_rate": 3e-4}),
    ],
)  # fmt: skip
def test_presets_are_the_published_numbers(
    name: str, preset: str, expected: dict[str, object]
) -> None:
    (config,) = expand(find(name).Config, preset_fields(name, preset))
    assert vars(config).items() >= expected.items()


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        *(
            (name, "orig")
            for name in ("bc", "bco", "smodice", "lobsdice", "pw_dice", "dilo", "tailo")
        ),
        ("iql", "hopper-medium"),
    ],
)
def test_the_authors_settings_train_and_reopen(name: str, preset: str, tmp_path: object) -> None:
    fields = {k: v for k, v in QUIET.items() if k != "num_bins"} | short(name)
    run = fastifo.train(
        name, random_dataset(), num_updates=12, preset=preset, seeds=[0, 1], out=f"{tmp_path}/run",
        **fields,
    )  # fmt: skip
    in_native = (name, preset) in (("bc", "orig"), ("iql", "hopper-medium"))
    assert run.engine == ("native" if in_native else "torch")
    again = fastifo.open_run(f"{tmp_path}/run")
    obs = random_dataset().background.obs[:4]
    assert again.policy(1).act(obs).equal(run.policy(1).act(obs))
    assert again.policy(1).act(obs).abs().max() <= 1.0


@pytest.mark.parametrize(
    ("preset", "scaling"),
    [
        ("vfo", "none"), ("hopper-medium-expert", "none"), ("hopper-medium", "return_range"),
        ("hopper-medium-replay", "return_range"), ("adroit", "none"), ("antmaze", "none"),
    ],
)  # fmt: skip
def test_iql_scales_rewards_where_corl_does(preset: str, scaling: str) -> None:
    (config,) = expand(find("iql").Config, preset_fields("iql", preset))
    assert vars(config)["reward_scaling"] == scaling


@pytest.mark.parametrize("preset", ["vfo", "hopper-medium-expert", "hopper-medium"])
@pytest.mark.parametrize(
    ("name", "scaling"), [("otr", "return_range"), ("tge", "return_range"), ("seabo", "none")]
)
def test_rewards_of_a_method_are_scaled_as_its_authors_do(
    name: str, scaling: str, preset: str
) -> None:
    (config,) = expand(find(name).Config, preset_fields(name, preset))
    assert vars(config)["reward_scaling"] == scaling


def test_given_fields_override_the_preset() -> None:
    run = fastifo.train(
        "awr", random_dataset(), num_updates=2, preset="true_mdp", gamma=[0.9, 0.5], absorbing=True,
        **QUIET,
    )  # fmt: skip
    assert [member.config.absorbing for member in run.members] == [True, True]  # type: ignore[attr-defined]


PENALTIES = """
          halfcheetah   hopper        walker2d
random    0.001/0.1     0.001/0.01    0.01/0
medium    0.001/0.01    0.01/0.01     0.05/0.1
expert    0.01/0.01     0.1/0.1       0.01/0.5
medium-expert  0.01/0.1 0.1/0.01      0.01/0.01
medium-replay  0.01/0.001 0.05/0.5    0.05/0.01
full-replay    0.001/0.1 0.01/0.01    0.01/0.01
          pen           door          hammer       relocate
human     0.1/0.5       0.1/0.1       0.01/0.5     0.1/0.01
cloned    0.05/0.5      0.01/0.1      0.1/0.5      0.1/0.01
expert    0.01/0.01     0.05/0.01     0.01/0.01    0.05/0.01
          umaze   umaze-diverse medium-play  medium-diverse large-play  large-diverse
antmaze   0.003/0.002 0.003/0.001 0.001/0.0005 0.001/0 0.002/0.001 0.002/0.002
"""


def test_rebrac_presets_have_the_published_penalties_of_their_dataset() -> None:
    published: dict[str, tuple[float, float]] = {}
    heads: list[str] = []
    for line in PENALTIES.strip().splitlines():
        first, *rest = line.split()
        if "/" not in line:
            heads = [first, *rest]
            continue
        for head, pair in zip(heads, rest, strict=True):
            one, two = map(float, pair.split("/"))
            published[f"{first}-{head}" if first == "antmaze" else f"{head}-{first}"] = one, two
    penalties = {
        preset: (value.fields["policy_penalty"], value.fields["critic_penalty"])
        for (name, preset), value in PRESETS.items()
        if name == "rebrac"
    }
    assert penalties == published
    assert len(penalties) == 18 + 12 + 6


def test_a_preset_sets_the_reward_and_the_backbone() -> None:
    door = preset_fields("rebrac", "door-cloned")
    assert door == {
        "policy_penalty": 0.01, "critic_penalty": 0.1, "batch_size": 256, "learning_rate": 3e-4,
        "critic_learning_rate": 3e-4,
    }  # fmt: skip
    assert preset_fields("seabo", "door-cloned", "rebrac") == door | {"divides_by_actions": False}
    maze = preset_fields("rebrac", "antmaze-umaze")
    assert preset_fields("seabo", "antmaze-umaze", "rebrac") == maze | {"reward_slope": 5.0}
    otr = {"reward_slope": 1.0, "divides_by_observations": False}
    assert preset_fields("otr", "antmaze-umaze", "rebrac") == maze | otr
    assert preset_fields("tge", "antmaze-umaze", "rebrac") == maze


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_unknown_preset_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has no preset 'original'"):
        fastifo.train(name, random_dataset(), num_updates=2, preset="original")
