"""ReBRAC: TD3+BC with its penalties apart, normed critics and more layers.

Source: Tarasov et al. 2023, arXiv:2305.09836, and the authors' code, which too leaves out an
episode's last transition, without an action after it, where the clock ended it alone. Differs: the
targets follow after a step, not before it; the policy moves in the second update of each pair, not
in the first; layers are normed with an epsilon of 1e-5, not 1e-6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import require
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.relabel import ScaledConfig, check_scaling, scaled_rewards
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch
from fastifo.nn.heads import DeterministicPolicy, normal
from fastifo.nn.mlp import start_flat

PERIOD = 2  # the policy and all targets move in every second update


@dataclass(frozen=True)
class ReBRACConfig(ScaledConfig):
    batch_size: int = 1024  # transitions drawn in one update; 256 on Adroit and AntMaze
    hidden_sizes: tuple[int, ...] = (256, 256, 256)  # of every net; () is linear
    learning_rate: float = 1e-3  # Adam, policy; 3e-4 on Adroit and AntMaze
    critic_learning_rate: float = 1e-3  # Adam, critics; 3e-4 on Adroit, 5e-5 on AntMaze
    encoder_scales: tuple[float, ...] = ()  # tanh(scale * obs); none is the authors' code
    policy_head: str = "deterministic"  # the only one it has
    reward_scaling: str = "none"  # none | return_range: best and worst return 1000 apart
    gamma: float = 0.99  # discount; 0.999 on AntMaze
    policy_penalty: float = 0.01  # beta_1: of the policy's squared distance from the data
    critic_penalty: float = 0.01  # beta_2: of the same at the next observation, in the target
    policy_noise: float = 0.2  # deviation of what is added to the target's action
    noise_clip: float = 0.5  # and its limit
    normalizes_q: bool = True  # the policy's critic term is divided by its mean absolute value
    critic_layer_norm: bool = True  # behind each hidden layer of the critics
    polyak: float = 0.005  # share by which targets follow
    absorbing: bool = False  # a terminal is worth reward / (1 - gamma); False: its reward alone

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require(self, "critic_learning_rate", self.critic_learning_rate > 0, "above 0")
        require(self, "polyak", 0.0 < self.polyak <= 1.0, "in (0, 1]")
        require(self, "policy_head", self.policy_head == "deterministic", "deterministic")
        require(self, "init", self.init == "fan_in_uniform", "fan_in_uniform, as its authors start")
        for name in ("policy_penalty", "critic_penalty", "policy_noise", "noise_clip"):
            require(self, name, getattr(self, name) >= 0, "at least 0")


class ReBRAC(Learner):
    Config: ClassVar[type[ReBRACConfig]] = ReBRACConfig
    name: ClassVar[str] = "rebrac"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    period: ClassVar[int] = PERIOD
    policy_loss: Tensor

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return frozenset({"reward", "next_action", "noise"})

    @classmethod
    def check_training(cls, dataset: Dataset, config: Any) -> None:
        check_scaling(dataset, config)
        background = dataset.background
        if bool(((background.lengths == 1) & background.timeout[background.start[1:] - 1]).all()):
            raise ValueError(
                "rebrac learns from an action and the one after it; every background episode is "
                "one transition that the clock ended"
            )

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        return scaled_rewards(dataset, configs, trainer)

    def build(self) -> None:
        policy = self.make_policy()
        assert isinstance(policy, DeterministicPolicy)
        self.policy = policy
        start_flat(policy.body, 1e-3)
        self.policy_target = self.target_of(policy, every=PERIOD)
        self.param_group(policy, period=PERIOD)
        norm = self.cfg.critic_layer_norm
        self.critic = self.critic_net("critic", layer_norm=norm)
        self.twin = self.critic_net("twin", layer_norm=norm)
        for critic in (self.critic, self.twin):
            start_flat(critic, 3e-3)
            self.param_group(critic, "critic_learning_rate")
        self.critic_target = self.target_of(self.critic, every=PERIOD)
        self.twin_target = self.target_of(self.twin, every=PERIOD)
        zeros = torch.zeros(len(self.seeds), dtype=self.dtype)
        self.register_buffer("policy_loss", zeros)  # of the last update that moved it

    def update(self, batch: Batch) -> Metrics:
        hp, b = self.hp, batch.background
        assert b.action is not None
        assert b.next_action is not None
        assert b.reward is not None
        assert batch.noise is not None

        # Critics: the target's own action at the next observation, with noise, less a penalty for
        # its distance from what the data did there.
        clip, width = hp.noise_clip.unsqueeze(-1), hp.policy_noise.unsqueeze(-1)
        with torch.no_grad():
            noise = torch.minimum(
                torch.maximum(width * normal(*batch.noise.chunk(2, -1)), -clip), clip
            )
            next_action = (self.policy_target.mode(b.next_obs) + noise).clamp(-1.0, 1.0)
            next_pair = torch.cat([b.next_obs, next_action], -1)
            next_q = torch.minimum(self.critic_target(next_pair), self.twin_target(next_pair))
            distance = (next_action - b.next_action).square().sum(-1)
            next_q = next_q - hp.critic_penalty * distance
        pair = torch.cat([b.obs, b.action], -1)
        one = torch.ones_like(hp.gamma)
        steps, critic_loss = [], torch.zeros_like(self.policy_loss)
        for critic in (self.critic, self.twin):
            q = critic(pair)
            loss, gradient, _, _ = self.ops.advantage(
                q.detach(), next_q, None, b.reward, b.terminal, one, hp.gamma, one, one, None,
                self.cfg.absorbing, False, 0,
            )  # fmt: skip
            critic_loss = critic_loss + loss
            steps.append((q, gradient))
        self.apply_gradients(steps, self.critic, self.twin)

        # Policy, every second update: near the data's actions, where the critics see value.
        if self.phase == PERIOD - 1:
            action = self.policy.mode(b.obs)
            pair = torch.cat([b.obs, action], -1)
            q = torch.minimum(self.critic(pair), self.twin(pair))
            cost = (hp.policy_penalty * (action - b.action).square().sum(-1)).mean(1)
            size = q.detach().abs().mean(1) if self.cfg.normalizes_q else torch.ones_like(cost)
            policy_loss = cost - q.mean(1) / size
            self.minimise(policy_loss, self.policy)
            self.policy_loss.copy_(policy_loss.detach())
        return {
            "critic_loss": critic_loss,
            "policy_loss": self.policy_loss.clone(),
            "critic_mean": steps[0][0].detach().mean(1),
            "next_distance": distance.mean(1),
        }
