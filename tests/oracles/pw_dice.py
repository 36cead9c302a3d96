"""Oracle of PW-DICE: a contrastive encoder, the dual of the primal Wasserstein problem, cloning.

With z(s) on the unit sphere, d(s, s_E) = scale |z(s) - z(s_E)|^2 - ratio_scale R(s) and
delta = lambda(s) - gamma (1 - T) lambda(s') - u1(s),
    L = e1 log E[exp((u1(s) + u2(s_E) - d(s, s_E)) / e1)] + e2 log E[exp(delta / e2)]
        - (1 - gamma) E[lambda(s0)] - E_E[u2(s_E)]
    policy: -E[weight log pi(a|s)], weight exp(delta / e2) / its mean
where (s, s_E) are the rows of two independent draws, in pairs, and the s of delta and of the policy
are those of a third. The encoder minimises the cross-entropy of z(s_i)^T A z(s'_j) with i = j as
the right class, A = f(W) f(W)^T, f softplus.
Source: Yan et al. 2024, arXiv:2311.01331, and the authors' code.

nets: "duals" with the outputs lambda, u1, u2, "embedding", "policy", and "factor", W [E, E].
config keys in addition to those of parts: coupling_temperature (e1), temperature (e2),
distance_scale, ratio_scale, logit_clamp, policy_learning_rate, embedding_learning_rate,
embedding_gradient_clip.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .heads import log_likelihood
from .parts import MLP, Batch, Config, History, Layers, make_optimizer


def train_embedding(
    layers: Layers, factor: Tensor, batches: Iterable[Batch], config: Config
) -> tuple[list[tuple[Tensor, Tensor]], Tensor, list[float]]:
    """Makes one update per batch; returns the encoder's layers, W and each update's loss."""
    net, w = MLP(layers, config), nn.Parameter(factor.clone())
    parameters = [*net.parameters(), w]
    optimizer = torch.optim.Adam(parameters, lr=config["embedding_learning_rate"])
    losses = []
    for batch in batches:
        rows = batch["background"]
        loss = contrastive_loss(net, w, rows["obs"], rows["next_obs"])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, config["embedding_gradient_clip"])
        optimizer.step()
        losses.append(loss.item())
    return net.layers(), w.detach(), losses


def on_sphere(net: MLP, obs: Tensor) -> Tensor:
    z: Tensor = net(obs)
    norm: Tensor = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z / norm


def contrastive_loss(net: MLP, w: Tensor, obs: Tensor, next_obs: Tensor) -> Tensor:
    """Cross-entropy of the similarities of z(s_i) and z(s'_j), in which j = i is right."""
    similarity = nn.functional.softplus(w) @ nn.functional.softplus(w).T
    logits = on_sphere(net, obs) @ similarity @ on_sphere(net, next_obs).T
    loss: Tensor = nn.functional.cross_entropy(logits, torch.arange(len(obs)))
    return loss


def run(
    nets: Mapping[str, Layers], batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Makes one joint update of duals and policy per batch.

    batches: "background" rows with "reward", the discriminator's logit, "policy" rows (a second
    draw of the background), "expert" rows, "initial" [B, d].  Returns the nets and a history.
    """
    policy, duals = MLP(nets["policy"], config), MLP(nets["duals"], config)
    embedding = MLP(nets["embedding"], config).requires_grad_(False)
    optimizers = [
        make_optimizer([duals], config["learning_rate"], config),
        make_optimizer([policy], config["policy_learning_rate"], config),
    ]
    history: History = []
    for batch in batches:
        rows = batch["policy"]
        delta = residual(duals, rows, config)
        value_loss = dual_loss(duals, embedding, delta, batch, config)
        weight = torch.exp((delta.detach() - delta.max().detach()) / config["temperature"])
        weight = (weight / weight.mean()).clamp(max=config["max_weight"])
        log_pi = log_likelihood(policy(rows["obs"]), rows["action"], config)
        policy_loss = (weight * -log_pi).mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(value_loss + policy_loss)
        for optimizer in optimizers:
            optimizer.step()
        losses = {"value_loss": value_loss.item(), "policy_loss": policy_loss.item()}
        history.append({**losses, "weight_mean": weight.mean().item()})
    return {"policy": policy.layers(), "duals": duals.layers()}, history


def residual(duals: MLP, rows: Mapping[str, Any], config: Config) -> Tensor:
    """delta of each row: [B]."""
    lam, u1, _ = duals(rows["obs"]).unbind(dim=1)
    next_lam = duals(rows["next_obs"])[:, 0]
    discount = config["gamma"] * (1 - rows["terminal"])
    result: Tensor = lam - discount * next_lam - u1
    return result


def dual_loss(duals: MLP, embedding: MLP, delta: Tensor, batch: Batch, config: Config) -> Tensor:
    e1, e2, gamma = config["coupling_temperature"], config["temperature"], config["gamma"]
    u1 = duals(batch["background"]["obs"])[:, 1]
    u2 = duals(batch["expert"]["obs"])[:, 2]
    gain = (u1 + u2 - distance(embedding, batch, config)) / e1
    coupling = e1 * torch.log(torch.exp(gain).mean())
    flow = e2 * torch.log(torch.exp(delta / e2).mean())
    initial = duals(batch["initial"])[:, 0]
    loss: Tensor = coupling + flow - (1 - gamma) * initial.mean() - u2.mean()
    return loss


def distance(embedding: MLP, batch: Batch, config: Config) -> Tensor:
    """d(s, s_E) of the rows, in pairs: [B]."""
    z, z_expert = (
        on_sphere(embedding, batch[source]["obs"]) for source in ("background", "expert")
    )
    squared = ((z - z_expert) ** 2).sum(dim=1)
    limit: float = config["logit_clamp"]
    ratio = batch["background"]["reward"].clamp(-limit, limit)
    result: Tensor = config["distance_scale"] * squared - config["ratio_scale"] * ratio
    return result
