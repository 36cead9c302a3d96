"""Train and evaluate the expert policies that ship with the package.

PPO from stable-baselines3 runs over EnvPool. Observation normalisation is folded into the
exported file, an ``.npz`` of plain arrays that opens with ``numpy.load(allow_pickle=False)``::

    h = clip((obs[:D] - obs_mean) / obs_std, -obs_clip, obs_clip)
    for each layer: h = h @ W + b, then hidden_activation except after the last
    h = h * out_scale + out_shift; if output_activation == "tanh": h = tanh(h)
    action = clip(h, -1, 1)

Returns are undiscounted sums of the environment's own reward over one episode. Training needs
``stable-baselines3`` and ``gymnasium`` (extra ``experts``); evaluation needs EnvPool alone.
"""

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

FLOORS = {"Hopper-v4": 2500.0, "HalfCheetah-v4": 4000.0, "Walker2d-v4": 3000.0, "Ant-v4": 3000.0}
REPORT_SEED = 1000
SELECT_SEED = 5000
TRAIN_SEED = 1_000_000
OBS_CLIP = 10.0
OPTIONS: tuple[tuple[str, int | float, str], ...] = (
    ("--seed", 0, "seed of weights, noise and starts"),
    ("--steps", 5_000_000, "environment steps at most"),
    ("--num-envs", 64, "environments in the pool"),
    ("--rollout", 4096, "samples per update, all environments together"),
    ("--minibatch", 256, "samples per gradient step"),
    ("--epochs", 10, "passes over each rollout"),
    ("--lr", 3e-4, "Adam step size, linear decay to 0"),
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
    "lrelu": lambda h: np.where(h > 0.0, h, 0.01 * h),
}


def load_policy(path: Path) -> dict[str, Any]:
    """Return the arrays of a policy file by key, read without pickle."""
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def act(policy: dict[str, Any], obs: NDArray[Any]) -> NDArray[np.float32]:
    """Return the deterministic actions (rows, A), in [-1, 1], for observations (rows, >= D)."""
    hidden = ACTIVATIONS[str(policy["hidden_activation"])]
    clip, count = float(policy["obs_clip"]), int(policy["n_layers"])
    h = obs[:, : policy["obs_mean"].size].astype(np.float32)
    h = np.clip((h - policy["obs_mean"]) / policy["obs_std"], -clip, clip)
    for layer in range(count):
        h = h @ policy[f"W{layer}"] + policy[f"b{layer}"]
        if layer < count - 1:
            h = hidden(h)
    h = h * policy["out_scale"] + policy["out_shift"]
    if str(policy["output_activation"]) == "tanh":
        h = np.tanh(h)
    return np.asarray(np.clip(h, -1.0, 1.0), dtype=np.float32)


def make_pool(env: str, num_envs: int, seed: int) -> Any:
    """Return a one-thread EnvPool in which environment i is seeded with ``seed + i``."""
    envpool = importlib.import_module("envpool")
    return envpool.make_gymnasium(env, num_envs=num_envs, seed=seed, num_threads=1)


def evaluate(policy: dict[str, Any], env: str, episodes: int, seed: int) -> dict[str, Any]:
    """Run one deterministic episode in each of ``episodes`` environments.

    Returns the mean, standard deviation (population) and minimum of the episode returns, and
    the mean and minimum of the episode lengths in steps. One episode per environment keeps
    short episodes from being counted more often than long ones.
    """
    pool = make_pool(env, episodes, seed)
    obs, _ = pool.reset()
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
    running = np.ones(episodes, dtype=bool)
    while running.any():
        obs, reward, terminated, truncated, _ = pool.step(act(policy, obs))
        returns[running] += reward[running]
        lengths[running] += 1
        running &= ~(terminated | truncated)
    pool.close()
    return {
        "episodes": episodes,
        "seeds": [seed, seed + episodes - 1],
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "length_mean": float(lengths.mean()),
        "length_min": int(lengths.min()),
    }


def describe(result: dict[str, Any]) -> str:
    """Return one line of text for a result of :func:`evaluate`."""
    return (
        f"return {result['return_mean']:.0f} +- {result['return_std']:.0f} "
        f"(min {result['return_min']:.0f}) length {result['length_mean']:.0f} "
        f"(min {result['length_min']}) over {result['episodes']} episodes"
    )


class PoolSteps:
    """EnvPool with the same-step resets that a stable-baselines3 ``VecEnv`` promises.

    EnvPool resets a finished environment on the step after its end and returns a row that is
    no transition. Here finished environments are reset inside :meth:`step_wait`, so such rows
    never occur; the true last observation goes to ``infos[i]["terminal_observation"]``.
    The first episode of environment i is cut at a different step for each i and reported as
    a time limit, so that equally long episodes do not stay in step with one another.
    """

    def open_pool(self, env: str, num_envs: int, seed: int, limit: int = 1000) -> None:
        """Open the pool; ``limit`` is the episode limit in steps over which starts spread."""
        self.pool = make_pool(env, num_envs, seed)
        self.elapsed = np.arange(num_envs) * limit // num_envs
        self.limit = limit

    def reset(self) -> NDArray[np.float32]:
        """Reset every environment and return the first observations."""
        obs, _ = self.pool.reset()
        return np.asarray(obs, dtype=np.float32)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions of the next step, clipped to [-1, 1]."""
        self.actions = np.clip(actions, -1.0, 1.0)

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """Step once and return observations, rewards, done flags and infos."""
        raw, rewards, terminated, truncated, _ = self.pool.step(self.actions)
        obs = np.array(raw, dtype=np.float32)
        self.elapsed += 1
        dones = terminated | truncated | (self.elapsed >= self.limit)
        infos: list[dict[str, Any]] = [{} for _ in range(len(dones))]
        finished = np.flatnonzero(dones).astype(np.int32)
        if finished.size:
            for i in finished:
                cut = not bool(terminated[i])
                infos[i] = {"terminal_observation": obs[i].copy(), "TimeLimit.truncated": cut}
            first, info = self.pool.reset(finished)
            obs[info["env_id"]] = first
            self.elapsed[finished] = 0
        return obs, rewards, dones, infos

    def close(self) -> None:
        """Close the pool."""
        self.pool.close()

    def get_attr(self, attr_name: str, *_args: Any, **_kwargs: Any) -> list[Any]:
        """Return that no environment renders; there are no other attributes or methods."""
        if attr_name == "render_mode":
            return [None] * len(self.elapsed)
        raise AttributeError(attr_name)

    set_attr = env_method = get_attr

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return False for every environment: none is wrapped."""
        return [False] * len(self.elapsed)


def make_vec_env(args: argparse.Namespace) -> Any:
    """Return a normalising stable-baselines3 ``VecEnv`` over an EnvPool."""
    vec = importlib.import_module("stable_baselines3.common.vec_env")
    spaces = importlib.import_module("gymnasium.spaces")
    cls: Any = type("EnvPoolVecEnv", (PoolSteps, vec.VecEnv), {})
    inner = cls.__new__(cls)
    inner.open_pool(args.env, args.num_envs, TRAIN_SEED + 1000 * args.seed)
    size, actions = inner.pool.observation_space.shape, inner.pool.action_space.shape
    obs_space = spaces.Box(-np.inf, np.inf, size, np.float32)
    vec.VecEnv.__init__(inner, args.num_envs, obs_space, spaces.Box(-1.0, 1.0, actions))
    return vec.VecNormalize(inner, clip_obs=OBS_CLIP, gamma=args.gamma)


def make_model(args: argparse.Namespace) -> Any:
    """Return a PPO model with separate tanh networks for the policy and the value."""
    torch = importlib.import_module("torch")
    sb3 = importlib.import_module("stable_baselines3")
    torch.set_num_threads(1)
    rate, steps = float(args.lr), args.rollout // args.num_envs
    net = {"net_arch": [args.hidden] * 2, "activation_fn": torch.nn.Tanh}
    model = sb3.PPO("MlpPolicy", make_vec_env(args), lambda left: rate * left, n_steps=steps,
                    batch_size=args.minibatch, n_epochs=args.epochs, gamma=args.gamma,
                    gae_lambda=args.gae_lambda, clip_range=args.clip, seed=args.seed,
                    device="cpu", policy_kwargs=net | {"log_std_init": args.log_std})
    return model


def export_policy(model: Any, env: str) -> dict[str, Any]:
    """Return the model's mean policy, observation normalisation included, as plain arrays."""
    stats, net = model.get_env().obs_rms, model.policy
    layers = [m for m in net.mlp_extractor.policy_net if hasattr(m, "weight")] + [net.action_net]
    width = layers[-1].bias.numel()
    std = np.sqrt(stats.var + model.get_env().epsilon)
    policy: dict[str, Any] = {"obs_mean": stats.mean, "obs_std": std, "obs_clip": OBS_CLIP}
    policy |= {"out_scale": np.ones(width), "out_shift": np.zeros(width)}
    policy["log_std"] = net.log_std.detach().numpy()
    for i, layer in enumerate(layers):
        policy[f"W{i}"] = layer.weight.detach().numpy().T
        policy[f"b{i}"] = layer.bias.detach().numpy()
    policy = {key: np.array(value, dtype=np.float32) for key, value in policy.items()}
    words = {"hidden_activation": "tanh", "output_activation": "none", "env": env}
    words["source"] = "fastifo.experts.train_experts: PPO of stable-baselines3 over EnvPool"
    policy |= {key: np.array(text) for key, text in words.items()}
    return policy | {"n_layers": np.array(len(layers))}


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it, and move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as handle:
        try:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
            os.chmod(handle.name, 0o644)
            os.replace(handle.name, path)
        except BaseException:
            Path(handle.name).unlink(missing_ok=True)
            raise


def write_expert(args: argparse.Namespace, policy: dict[str, Any], record: dict[str, Any]) -> None:
    """Write the policy file and its provenance beside it."""
    target: Path = args.out / f"{args.env}.npz"
    text = json.dumps(record, indent=2) + "\n"
    write_atomic(target, lambda handle: np.savez(handle, **policy))
    write_atomic(target.with_suffix(".json"), lambda handle: handle.write(text.encode()))


def provenance(args: argparse.Namespace, model: Any, wall: float) -> dict[str, Any]:
    """Return what made the model: settings, versions, steps, updates and wall seconds."""
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "evaluate", "seed")}
    flags = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in settings.items())
    packages = ("torch", "stable_baselines3", "envpool", "numpy", "gymnasium")
    versions = {name: importlib.metadata.version(name) for name in packages}
    batches = -(-args.rollout // args.minibatch)
    return {
        "env": settings.pop("env"),
        "algorithm": "PPO (stable-baselines3), observations and rewards normalised",
        "hyperparameters": settings | {"lr_schedule": "linear to 0", "obs_clip": OBS_CLIP},
        "seed": args.seed,
        "versions": {"python": platform.python_version()} | versions,
        "environment_steps": int(model.num_timesteps),
        "gradient_updates": int(model._n_updates) * batches,
        "wall_seconds": round(wall, 1),
        "command": f"python -m fastifo.experts.train_experts {flags} --seed {args.seed}",
    }


@dataclasses.dataclass
class Tracker:
    """Evaluates during training, keeps the best policy, and says when to stop.

    Selection uses start seeds apart from those of the reported return, and ranks by mean less
    one standard deviation, which prefers policies that seldom fall.
    """

    args: argparse.Namespace
    model: Any
    start: float = dataclasses.field(default_factory=time.monotonic)
    due: int = 0
    best: float = -np.inf
    written: bool = False

    def __call__(self, local: dict[str, Any], names: dict[str, Any]) -> bool:
        """Run after every vector step; returns False to end training."""
        if self.model.num_timesteps < self.due:
            return True
        self.due += self.args.eval_every
        policy = export_policy(self.model, self.args.env)
        result = evaluate(policy, self.args.env, self.args.episodes, SELECT_SEED)
        wall = time.monotonic() - self.start
        print(f"steps {self.model.num_timesteps} wall {wall:.0f} s {describe(result)}", flush=True)
        score = result["return_mean"] - result["return_std"]
        if result["return_mean"] < self.args.floor or score <= self.best:
            return True
        final = evaluate(policy, self.args.env, self.args.episodes, REPORT_SEED)
        if final["return_mean"] < self.args.floor:
            return True
        self.best, self.written = score, True
        record = provenance(self.args, self.model, wall)
        write_expert(self.args, policy, record | {"evaluation": final})
        print(f"wrote {self.args.env}.npz: {describe(final)}", flush=True)
        means = min(result["return_mean"], final["return_mean"])
        return bool(means < self.args.target or score < self.args.floor)


def train(args: argparse.Namespace) -> int:
    """Train until the target return or the step limit; returns the process exit status."""
    model = make_model(args)
    tracker = Tracker(args, model, due=args.eval_every)
    model.learn(args.steps, callback=tracker)
    model.get_env().close()
    if not tracker.written:
        print(f"the return never reached the floor {args.floor:.0f}; nothing written")
    return 0 if tracker.written else 1


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options, with floor and target filled in."""
    p = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("--env", help="EnvPool id (with --evaluate: default is the file's)")
    p.add_argument("--evaluate", type=Path, metavar="FILE", help="only print a file's return")
    p.add_argument("--out", type=Path, default=Path(__file__).parent, help="output folder")
    for flag, default, text in OPTIONS:
        p.add_argument(flag, type=type(default), default=default, help=text)
    p.add_argument("--floor", type=float, help="least mean return written (default: by env)")
    p.add_argument("--target", type=float, help="mean return that ends training (1.15 floors)")
    args = p.parse_args(argv)
    if args.env is None and args.evaluate is None:
        p.error("--env or --evaluate is needed")
    if args.floor is None:
        args.floor = FLOORS.get(str(args.env), 0.0)
    if args.target is None:
        args.target = 1.15 * args.floor
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the process exit status."""
    args = parse(argv)
    if args.evaluate is None:
        return train(args)
    policy = load_policy(args.evaluate)
    env = args.env or str(policy["env"])
    env = env if "-v" in env else f"{env}-v4"
    print(f"{env} {describe(evaluate(policy, env, args.episodes, REPORT_SEED))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
