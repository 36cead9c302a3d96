"""The step in JAX: jit with a scan of whole steps, and the same under vmap over members.

Data on the device, indices drawn inside the compiled loop, buffers donated.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.peers import problem as p


class Jax:
    """`step` makes `chunk` updates of every member in one compiled call."""

    def __init__(
        self, columns: dict[str, np.ndarray], hidden: int, members: int | None, chunk: int,
        bf16: bool = False,
    ) -> None:  # fmt: skip
        self.members = chunk * (members or 1)  # member-updates in one call
        # Highest: on a GPU JAX multiplies single precision in TF32 unless told.
        kind, exact = (jnp.bfloat16, None) if bf16 else (jnp.float32, jax.lax.Precision.HIGHEST)
        data = {
            "expert": jnp.concatenate([columns["expert_obs"], columns["expert_next_obs"]], 1),
            "background": jnp.concatenate(
                [columns["background_obs"], columns["background_next_obs"]], 1
            ),
            "bin": jnp.asarray(columns["bin"], dtype=jnp.int32),
        }
        scales, kernel = jnp.asarray(p.SCALES), jnp.asarray(p.kernel()).T
        optimizer, size = optax.adam(p.LEARNING_RATE), p.BATCH_SIZE
        reward = jnp.concatenate([jnp.ones(p.BATCH_SIZE), jnp.zeros(p.BATCH_SIZE)])

        def layer(key: Any, i: int, o: int) -> Any:
            bound = i**-0.5
            weight = jax.random.uniform(key, (i, o), minval=-bound, maxval=bound)
            return weight, jnp.zeros(o)

        def start(key: Any) -> Any:
            keys = jax.random.split(key, 6)
            outputs = p.ACTION_DIM * p.NUM_BINS
            nets = {
                name: [
                    layer(keys[3 * n], p.WIDTH, hidden),
                    layer(keys[3 * n + 1], hidden, hidden),
                    layer(keys[3 * n + 2], hidden, count),
                ]
                for n, (name, count) in enumerate((("value", 1), ("policy", outputs)))
            }
            target = jax.tree.map(jnp.copy, nets["value"])
            return nets, target, optimizer.init(nets), jnp.array(0), jnp.copy(key)

        def net(parameters: Any, x: Any) -> Any:
            for place, (weight, bias) in enumerate(parameters):
                x = jnp.dot(
                    x.astype(kind), weight.astype(kind), precision=exact,
                    preferred_element_type=jnp.float32,
                ) + bias  # fmt: skip
                x = jax.nn.relu(x) if place < 2 else x
            return x

        def encode(obs: Any) -> Any:
            return jnp.tanh(obs[..., None] * scales).reshape(*obs.shape[:-1], -1)

        def update(data: Any, state: Any) -> Any:
            nets, target, moments, count, key = state
            key, key_e, key_b = jax.random.split(key, 3)
            e = data["expert"][jax.random.randint(key_e, (size,), 0, p.NUM_EXPERT)]
            index = jax.random.randint(key_b, (size,), 0, p.NUM_BACKGROUND)
            rows = jnp.concatenate([e, data["background"][index]])
            bins = data["bin"][index]
            x, ahead = encode(rows[:, : p.OBS_DIM]), encode(rows[:, p.OBS_DIM :])
            y = reward + p.GAMMA * net(target, ahead)[:, 0]

            def loss(nets: Any) -> Any:
                v = net(nets["value"], x)[:, 0]
                advantage = jax.lax.stop_gradient(y - v)[size:]
                weight = jnp.minimum(jnp.exp(advantage / p.TEMPERATURE), p.MAX_WEIGHT)
                error = jnp.square(y - v)
                value = (1 - p.ALPHA) * error[:size].mean() + p.ALPHA * error[size:].mean()
                logits = net(nets["policy"], x[size:]).reshape(size, p.ACTION_DIM, p.NUM_BINS)
                log_probs = jax.nn.log_softmax(logits @ kernel)
                chosen = jnp.take_along_axis(log_probs, bins[..., None], -1)[..., 0].sum(-1)
                return value - jnp.mean(weight * chosen)

            change, moments = optimizer.update(jax.grad(loss)(nets), moments, nets)
            nets = optax.apply_updates(nets, change)
            count = count + 1
            renews = count % p.TARGET_PERIOD == 0
            if members is None:
                target = jax.lax.cond(renews, lambda: nets["value"], lambda: target)
            else:
                target = jax.tree.map(lambda n, t: jnp.where(renews, n, t), nets["value"], target)
            return nets, target, moments, count, key

        each = update if members is None else jax.vmap(update, in_axes=(None, 0))

        def run(data: Any, state: Any) -> Any:
            return jax.lax.scan(lambda s, _: (each(data, s), None), state, None, chunk)[0]

        keys = jax.random.split(jax.random.PRNGKey(0), members or 1)
        self.state = start(keys[0]) if members is None else jax.vmap(start)(keys)
        self.data = data
        self.run = jax.jit(run, donate_argnums=(1,))

    def step(self) -> None:
        self.state = self.run(self.data, self.state)
        jax.tree.map(lambda x: x.block_until_ready(), self.state)
