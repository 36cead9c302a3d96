"""The step in JAX: a jitted scan over updates, and the same under vmap over members.

The data are on the device, indices are drawn inside the compiled loop, and buffers are donated.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.peers import problem as p


def make_layer(key: Any, inputs: int, outputs: int) -> Any:
    """The weight and bias of a linear layer."""
    bound = inputs**-0.5
    weight = jax.random.uniform(key, (inputs, outputs), minval=-bound, maxval=bound)
    return weight, jnp.zeros(outputs)


def make_nets(key: Any, hidden: int) -> Any:
    """The parameters of the value net and the policy."""
    keys = jax.random.split(key, 6)
    outputs = p.ACTION_DIM * p.NUM_BINS
    return {
        name: [
            make_layer(keys[3 * n], p.WIDTH, hidden),
            make_layer(keys[3 * n + 1], hidden, hidden),
            make_layer(keys[3 * n + 2], hidden, count),
        ]
        for n, (name, count) in enumerate((("value", 1), ("policy", outputs)))
    }


class Jax:
    """The step in JAX; one call of `step` makes `chunk` updates of every member."""

    def __init__(
        self, columns: dict[str, np.ndarray], hidden: int, members: int | None, chunk: int,
        bf16: bool = False,
    ) -> None:  # fmt: skip
        """members: None for a single member without vmap."""
        self.members = chunk * (members or 1)  # model-steps of one call
        self.copies_by_branch = members is None  # vmap would turn a branch into a select
        # Highest precision, because on a GPU JAX computes float32 products in TF32 by default.
        self.dtype = jnp.bfloat16 if bf16 else jnp.float32
        self.precision = None if bf16 else jax.lax.Precision.HIGHEST
        self.data = {
            "expert": jnp.concatenate([columns["expert_obs"], columns["expert_next_obs"]], 1),
            "background": jnp.concatenate(
                [columns["background_obs"], columns["background_next_obs"]], 1
            ),
            "bin": jnp.asarray(columns["bin"], dtype=jnp.int32),
        }
        self.scales, self.kernel = jnp.asarray(p.SCALES), jnp.asarray(p.kernel()).T
        self.reward = jnp.concatenate([jnp.ones(p.BATCH_SIZE), jnp.zeros(p.BATCH_SIZE)])
        self.optimizer = optax.adam(p.LEARNING_RATE)

        def start(key: Any) -> Any:
            nets = make_nets(key, hidden)
            target = jax.tree.map(jnp.copy, nets["value"])
            return nets, target, self.optimizer.init(nets), jnp.array(0), jnp.copy(key)

        update = self._update if members is None else jax.vmap(self._update, in_axes=(None, 0))

        def run(data: Any, state: Any) -> Any:
            return jax.lax.scan(lambda s, _: (update(data, s), None), state, None, chunk)[0]

        keys = jax.random.split(jax.random.PRNGKey(0), members or 1)
        self.state = start(keys[0]) if members is None else jax.vmap(start)(keys)
        self.run = jax.jit(run, donate_argnums=(1,))

    def _net(self, parameters: Any, x: Any) -> Any:
        for index, (weight, bias) in enumerate(parameters):
            x = jnp.dot(
                x.astype(self.dtype), weight.astype(self.dtype), precision=self.precision,
                preferred_element_type=jnp.float32,
            ) + bias  # fmt: skip
            x = jax.nn.relu(x) if index < 2 else x
        return x

    def _encode(self, obs: Any) -> Any:
        return jnp.tanh(obs[..., None] * self.scales).reshape(*obs.shape[:-1], -1)

    def _loss(self, nets: Any, x: Any, y: Any, bins: Any) -> Any:
        """Value plus policy loss of encoded rows, expert first, with value targets y."""
        size = p.BATCH_SIZE
        v = self._net(nets["value"], x)[:, 0]
        advantage = jax.lax.stop_gradient(y - v)[size:]
        weight = jnp.minimum(jnp.exp(advantage / p.TEMPERATURE), p.MAX_WEIGHT)
        error = jnp.square(y - v)
        value = (1 - p.ALPHA) * error[:size].mean() + p.ALPHA * error[size:].mean()
        logits = self._net(nets["policy"], x[size:]).reshape(size, p.ACTION_DIM, p.NUM_BINS)
        log_probs = jax.nn.log_softmax(logits @ self.kernel)
        chosen = jnp.take_along_axis(log_probs, bins[..., None], -1)[..., 0].sum(-1)
        return value - jnp.mean(weight * chosen)

    def _update(self, data: Any, state: Any) -> Any:
        """One update of one member: draws a batch, steps both nets, copies the target on time."""
        nets, target, moments, count, key = state
        key, key_e, key_b = jax.random.split(key, 3)
        e = data["expert"][jax.random.randint(key_e, (p.BATCH_SIZE,), 0, p.NUM_EXPERT)]
        index = jax.random.randint(key_b, (p.BATCH_SIZE,), 0, p.NUM_BACKGROUND)
        rows = jnp.concatenate([e, data["background"][index]])
        x, next_x = self._encode(rows[:, : p.OBS_DIM]), self._encode(rows[:, p.OBS_DIM :])
        y = self.reward + p.GAMMA * self._net(target, next_x)[:, 0]

        gradient = jax.grad(self._loss)(nets, x, y, data["bin"][index])
        change, moments = self.optimizer.update(gradient, moments, nets)
        nets = optax.apply_updates(nets, change)
        count = count + 1
        copies = count % p.TARGET_PERIOD == 0
        if self.copies_by_branch:
            target = jax.lax.cond(copies, lambda: nets["value"], lambda: target)
        else:
            target = jax.tree.map(lambda n, t: jnp.where(copies, n, t), nets["value"], target)
        return nets, target, moments, count, key

    def step(self) -> None:
        """Makes `chunk` updates of every member and waits for them."""
        self.state = self.run(self.data, self.state)
        jax.tree.map(lambda x: x.block_until_ready(), self.state)
