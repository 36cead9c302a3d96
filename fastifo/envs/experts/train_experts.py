"""Trains and evaluates the expert policies that ship with the package.

Trains PPO from stable-baselines3 in EnvPool. The exported file, an `.npz` of plain arrays, includes
the observation normalisation; `act` shows how the arrays combine. Returns are undiscounted sums of
the environment's own reward over one episode. Training needs stable-baselines3 and gymnasium (extra
`experts`); evaluation needs only EnvPool.
"""

import argparse
import importlib.metadata
import io
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import envpool
import numpy as np
from numpy.typing import NDArray

from fastifo.utils.files import write_bytes, write_json

FLOORS = {"Hopper-v4": 2500.0, "HalfCheetah-v4": 4000.0, "Walker2d-v4": 3000.0, "Ant-v4": 3000.0}
REPORT_SEED, SELECT_SEED, TRAIN_SEED = 1000, 5000, 1_000_000
OBS_CLIP = 10.0
OPTIONS: tuple[tuple[str, int | float, str], ...] = (
    ("--seed", 0, "seed of weights, noise and starts"),
    ("--steps", 5_000_000, "most environment steps"),
    ("--num-envs", 64, "environments in the pool"),
    ("--rollout", 4096, "samples per update, summed over environments"),
    ("--minibatch", 256, "samples per gradient step"),
    ("--epochs", 10, "passes over each rollout"),
    ("--lr", 3e-4, "initial Adam step size, decays linearly to 0 at the last step"),
    ("--gamma", 0.99, "discount"),
    ("--gae-lambda", 0.95, "advantage trace decay"),
    ("--clip", 0.2, "PPO ratio clip"),
    ("--log-std", -0.7, "initial log standard deviation of the action noise"),
    ("--hidden", 64, "units in each of two layers"),
    ("--eval-every", 250_000, "steps between evaluations"),
    ("--episodes", 50, "episodes in an evaluation"),
)
ACTIVATIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "tanh": np.tanh,
    "relu": lambda h: np.maximum(h, 0.0),
    "lrelu": lambda h: np.maximum(h, 0.01 * h),
}


def act(policy: dict[str, Any], obs: NDArray[Any]) -> NDArray[np.float32]:
    """Deterministic actions in [-1, 1], [rows, A], for observations [rows, >= D]."""
    clip, hidden = float(policy["obs_clip"]), ACTIVATIONS[str(policy["hidden_activation"])]
    h = obs[:, : policy["obs_mean"].size].astype(np.float32)
    h = np.clip((h - policy["obs_mean"]) / policy["obs_std"], -clip, clip)
    for layer in range(int(policy["n_layers"])):
        h = h if layer == 0 else hidden(h)
        h = h @ policy[f"W{layer}"] + policy[f"b{layer}"]
    h = h * policy["out_scale"] + policy["out_shift"]
    h = np.tanh(h) if str(policy["output_activation"]) == "tanh" else h
    return np.asarray(np.clip(h, -1.0, 1.0), dtype=np.float32)


def make_pool(env: str, num_envs: int, seed: int) -> Any:
    """An EnvPool on one thread in which environment i has the seed `seed + i`."""
    return envpool.make_gymnasium(env, num_envs=num_envs, seed=seed, num_threads=1)


def evaluate(policy: dict[str, Any], env: str, episodes: int, seed: int) -> dict[str, Any]:
    """Statistics of one deterministic episode in each of `episodes` environments.

    Standard deviations divide by the number of episodes; lengths are in steps. One episode per
    environment: otherwise short episodes would count more often than long ones.
    """
    pool = make_pool(env, episodes, seed)
    obs, _ = pool.reset()
    returns, lengths, running = np.zeros(episodes), np.zeros(episodes), np.ones(episodes, bool)
    while running.any():
        obs, reward, terminated, truncated, _ = pool.step(act(policy, obs))
        returns[running] += reward[running]
        lengths[running] += 1
        running &= ~(terminated | truncated)
    pool.close()
    result: dict[str, Any] = {"episodes": episodes, "seeds": [seed, seed + episodes - 1]}
    result |= {f"return_{k}": float(getattr(returns, k)()) for k in ("mean", "std", "min")}
    return result | {f"length_{k}": float(getattr(lengths, k)()) for k in ("mean", "min")}


def describe(result: dict[str, Any]) -> str:
    """One line of text for a result of `evaluate`."""
    text = "return {return_mean:.0f} +- {return_std:.0f} (min {return_min:.0f}), length "
    text += "{length_mean:.0f} (min {length_min:.0f}), {episodes} episodes"
    return text.format(**result)


class PoolSteps:
    """EnvPool with the same-step resets that the `VecEnv` of stable-baselines3 requires.

    EnvPool resets a finished environment on the step after the episode's end and returns a row that
    is not a transition. This class resets finished environments inside `step_wait`, so such rows
    never occur; the last observation goes to `infos[i]["terminal_observation"]`. First episodes
    are cut at a different step in each environment and reported as timeouts, so that episodes of
    equal length do not end at the same time.
    """

    def open_pool(self, env: str, num_envs: int, seed: int) -> None:
        """Opens the pool and spreads the ends of the first episodes over the time limit."""
        self.pool = make_pool(env, num_envs, seed)
        self.limit = int(self.pool.spec.config.max_episode_steps)
        self.elapsed = np.arange(num_envs) * self.limit // num_envs

    def reset(self) -> NDArray[np.float32]:
        """Resets every environment and returns the first observations."""
        return np.asarray(self.pool.reset()[0], dtype=np.float32)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keeps the actions of the next step, clipped to [-1, 1]."""
        self.actions = np.clip(actions, -1.0, 1.0)

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """Steps once and returns observations, rewards, done flags and infos."""
        raw, rewards, terminated, truncated, _ = self.pool.step(self.actions)
        obs = np.array(raw, dtype=np.float32)
        self.elapsed += 1
        dones = terminated | truncated | (self.elapsed >= self.limit)
        infos: list[dict[str, Any]] = [{} for _ in range(len(dones))]
        finished = np.flatnonzero(dones).astype(np.int32)
        for i in finished:
            ends = {"TimeLimit.truncated": not terminated[i]}
            infos[i] = ends | {"terminal_observation": obs[i].copy()}
        if finished.size:
            first, info = self.pool.reset(finished)
            obs[info["env_id"]] = first
            self.elapsed[finished] = 0
        return obs, rewards, dones, infos

    def close(self) -> None:
        """Closes the pool."""
        self.pool.close()

    def get_attr(self, attr_name: str, *_args: Any, **_kwargs: Any) -> list[Any]:
        """The render mode, None for every environment; there are no other attributes."""
        if attr_name == "render_mode":
            return [None] * len(self.elapsed)
        raise AttributeError(attr_name)

    set_attr = env_method = get_attr

    def env_is_wrapped(self, _wrapper: Any, _indices: Any = None) -> list[bool]:
        """False for every environment: none is wrapped."""
        return [False] * len(self.elapsed)


def make_vec_env(args: argparse.Namespace) -> Any:
    """A `VecNormalize` of stable-baselines3 around an EnvPool."""
    vec = importlib.import_module("stable_baselines3.common.vec_env")
    spaces = importlib.import_module("gymnasium.spaces")
    cls: Any = type("EnvPoolVecEnv", (PoolSteps, vec.VecEnv), {})
    inner = cls.__new__(cls)
    inner.open_pool(args.env, args.num_envs, TRAIN_SEED + 1000 * args.seed)
    observations = spaces.Box(-np.inf, np.inf, inner.pool.observation_space.shape, np.float32)
    actions = spaces.Box(-1.0, 1.0, inner.pool.action_space.shape)
    vec.VecEnv.__init__(inner, args.num_envs, observations, actions)
    return vec.VecNormalize(inner, clip_obs=OBS_CLIP, gamma=args.gamma)


def make_model(args: argparse.Namespace) -> Any:
    """A PPO model with separate tanh networks for policy and value."""
    torch, sb3 = (importlib.import_module(name) for name in ("torch", "stable_baselines3"))
    torch.set_num_threads(1)
    net = {"net_arch": [args.hidden] * 2, "activation_fn": torch.nn.Tanh}
    settings = {key: getattr(args, key) for key in ("gamma", "gae_lambda", "seed")}
    settings |= {"batch_size": args.minibatch, "n_epochs": args.epochs, "clip_range": args.clip}
    settings |= {"n_steps": args.rollout // args.num_envs, "learning_rate": lambda p: args.lr * p}
    settings["policy_kwargs"] = net | {"log_std_init": args.log_std}
    return sb3.PPO("MlpPolicy", make_vec_env(args), device="cpu", **settings)


def export_policy(model: Any, env: str) -> dict[str, Any]:
    """The model's mean policy with its observation normalisation, as plain arrays."""
    stats, net = model.get_env().obs_rms, model.policy
    layers = [m for m in net.mlp_extractor.policy_net if hasattr(m, "weight")] + [net.action_net]
    width = layers[-1].bias.numel()
    std = np.sqrt(stats.var + model.get_env().epsilon)
    policy: dict[str, Any] = {"obs_mean": stats.mean, "obs_std": std, "obs_clip": OBS_CLIP}
    policy |= {"out_scale": np.ones(width), "out_shift": np.zeros(width)}
    policy["log_std"] = net.log_std.detach().numpy()
    for i, layer in enumerate(layers):
        policy |= {f"W{i}": layer.weight.detach().numpy().T, f"b{i}": layer.bias.detach().numpy()}
    policy = {key: np.array(value, dtype=np.float32) for key, value in policy.items()}
    texts = {"hidden_activation": "tanh", "output_activation": "none", "env": env}
    texts["source"] = "fastifo.envs.experts.train_experts: PPO of stable-baselines3 over EnvPool"
    policy["n_layers"] = np.array(len(layers))
    return policy | {key: np.array(text) for key, text in texts.items()}


def provenance(args: argparse.Namespace, model: Any, wall: float) -> dict[str, Any]:
    """How the model was made: settings, versions, steps, updates and wall-clock seconds."""
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "evaluate", "env")}
    flags = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in settings.items())
    packages = ("torch", "stable_baselines3", "envpool", "numpy", "gymnasium")
    versions = {name: importlib.metadata.version(name) for name in packages}
    updates = int(model._n_updates) * -(-args.rollout // args.minibatch)
    record = {"env": args.env, "algorithm": "PPO, normalised rewards, step size linear to 0"}
    record["command"] = f"python -m fastifo.envs.experts.train_experts --env {args.env} {flags}"
    counts = {"environment_steps": int(model.num_timesteps), "gradient_updates": updates}
    counts |= {"seed": args.seed, "wall_seconds": round(wall)}
    versions["python"] = platform.python_version()
    return record | counts | {"hyperparameters": settings, "versions": versions}


class Tracker:
    """Evaluates in training, keeps the policy with the best mean - std, and ends training."""

    def __init__(self, args: argparse.Namespace, model: Any) -> None:
        self.args, self.model, self.start = args, model, time.monotonic()
        self.due, self.best, self.written = args.eval_every, -np.inf, False

    def __call__(self, _locals: dict[str, Any], _globals: dict[str, Any]) -> bool:
        """Runs after every vector step; returns False to end training."""
        args, steps = self.args, self.model.num_timesteps
        if steps < self.due:
            return True
        self.due += args.eval_every
        policy = export_policy(self.model, args.env)
        result = evaluate(policy, args.env, args.episodes, SELECT_SEED)
        wall, mean = time.monotonic() - self.start, result["return_mean"]
        print(f"steps {steps} wall {wall:.0f} s {describe(result)}", flush=True)
        score = mean - result["return_std"]
        if mean < args.floor or score <= self.best:
            return True
        final = evaluate(policy, args.env, args.episodes, REPORT_SEED)
        if final["return_mean"] < args.floor:
            return True
        self.best, self.written = score, True
        target: Path = args.out / f"{args.env}.npz"
        record = provenance(args, self.model, wall) | {"evaluation": final}
        file = io.BytesIO()
        np.savez(file, **policy)
        write_bytes(target, file.getvalue())
        write_json(target.with_suffix(".json"), record)
        print(f"wrote {target.name}: {describe(final)}", flush=True)
        return bool(min(mean, final["return_mean"]) < args.target or score < args.floor)


def train(args: argparse.Namespace) -> int:
    """Trains until the target return or the step limit; returns the exit status."""
    model = make_model(args)
    tracker = Tracker(args, model)
    model.learn(args.steps, callback=tracker)
    if not tracker.written:
        print(f"the return never reached the floor {args.floor:.0f}; nothing written")
    return 0 if tracker.written else 1


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line, with floor and target filled in."""
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--env", help="EnvPool id (default with --evaluate: the file's, -v4)")
    p.add_argument(
        "--evaluate", type=Path, metavar="FILE", help="only print the return of this policy file"
    )
    p.add_argument("--out", type=Path, default=Path(__file__).parent, help="output folder")
    for flag, default, text in OPTIONS:
        p.add_argument(flag, type=type(default), default=default, help=f"{text} (%(default)s)")
    p.add_argument(
        "--floor", type=float, help="lowest mean return that is written (default: by environment)"
    )
    p.add_argument(
        "--target", type=float, help="mean return that ends training (default: 1.15 * floor)"
    )
    args = p.parse_args(argv)
    if args.env is None and args.evaluate is None:
        p.error("--env or --evaluate is needed")
    args.floor = FLOORS.get(str(args.env), 0.0) if args.floor is None else args.floor
    args.target = 1.15 * args.floor if args.target is None else args.target
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = parse(argv)
    if args.evaluate is None:
        return train(args)
    with np.load(args.evaluate, allow_pickle=False) as stored:
        policy = {key: stored[key] for key in stored.files}
    env = str(args.env or policy["env"])
    env = env if "-v" in env else f"{env}-v4"
    print(f"{env} {describe(evaluate(policy, env, args.episodes, REPORT_SEED))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
