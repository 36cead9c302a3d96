"""ReBRAC: TD3+BC with separate policy and critic penalties, layer norm in the critics, deeper nets.

Source: Tarasov et al. 2023, arXiv:2305.09836, and the authors' code, which also leaves out the last
transition of an episode that timed out, because it has no next action. Differs: the policy's target
tracks the policy after its step, in the authors' code before it (the critics' targets track after
the step there too); the policy trains in the second update of each pair, not in the first; the
epsilon of the layer norm is 1e-5, not 1e-6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import require
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.algos.relabel import RewardScalingConfig, check_reward_scaling, scale_rewards
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch
from fastifo.nn.heads import DeterministicPolicy, box_muller
from fastifo.nn.mlp import init_small_output

PERIOD = 2  # the policy trains, and all targets track, in every second update


@dataclass(frozen=True)
class ReBRACConfig(RewardScalingConfig):
    """Fields of `rebrac`; the defaults are those for MuJoCo locomotion."""

    batch_size: int = 1024  # transitions drawn in one update; 256 on Adroit and AntMaze
    hidden_sizes: tuple[int, ...] = (256, 256, 256)  # hidden widths of every net; () is linear
    learning_rate: float = 1e-3  # learning rate of Adam, policy; 3e-4 on Adroit and AntMaze
    critic_learning_rate: float = 1e-3  # of Adam, critics; 3e-4 on Adroit, 5e-5 on AntMaze
    encoder_scales: tuple[float, ...] = ()  # inputs tanh(scale * obs); () is obs, as the authors do
    policy_head: str = "deterministic"  # ReBRAC has no other
    gamma: float = 0.99  # discount; 0.999 on AntMaze
    policy_penalty: float = 0.01  # beta_1: penalty on the policy's squared distance from the data
    critic_penalty: float = 0.01  # beta_2: the same penalty at the next state, in the critic target
    policy_noise: float = 0.2  # standard deviation of the noise on the target policy's action
    noise_clip: float = 0.5  # limit of that noise
    normalizes_q: bool = True  # divide the policy's critic term by its mean absolute value
    critic_layer_norm: bool = True  # layer norm after each hidden layer of the critics
    polyak: float = 0.005  # rate at which targets track, in every second update
    absorbing: bool = False  # critic target at a terminal: reward / (1 - gamma); False: the reward

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require(self, "critic_learning_rate", self.critic_learning_rate > 0, "above 0")
        require(self, "polyak", 0.0 < self.polyak <= 1.0, "in (0, 1]")
        require(self, "policy_head", self.policy_head == "deterministic", "deterministic")
        require(
            self, "init", self.init == "fan_in_uniform", "fan_in_uniform, as in the authors' code"
        )
        for name in ("policy_penalty", "critic_penalty", "policy_noise", "noise_clip"):
            require(self, name, getattr(self, name) >= 0, "at least 0")


class ReBRAC(Learner):
    """Twin critics with a penalty in the target, and a deterministic policy near the data."""

    Config: ClassVar[type[ReBRACConfig]] = ReBRACConfig
    name: ClassVar[str] = "rebrac"
    native_loss = NativeLoss("rebrac", heads=("deterministic",), precisions=("fp32", "fp64"))
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    period: ClassVar[int] = PERIOD
    policy_loss: Tensor

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Rewards, the data's next action, and noise for the target policy's action."""
        return frozenset({"reward", "next_action", "noise"})

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        """Requires a transition with a next action, and two episodes for reward scaling."""
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        if relabel_only:
            return
        check_reward_scaling(dataset, config)
        background = dataset.background
        if bool(((background.lengths == 1) & background.timeout[background.start[1:] - 1]).all()):
            raise ValueError(
                "rebrac learns from an action and the one after it; every background episode is "
                "one transition that ended by timeout"
            )

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Scales the rewards."""
        return scale_rewards(dataset, configs, trainer)

    def build(self) -> None:
        """Builds the policy and two critics, each with a target copy."""
        policy = self.make_policy()
        assert isinstance(policy, DeterministicPolicy)
        self.policy = policy
        init_small_output(policy.body, 1e-3)
        self.policy_target = self.target_copy(policy, every=PERIOD)
        self.param_group(policy, period=PERIOD)
        norm = self.cfg.critic_layer_norm
        self.critic = self.critic_net("critic", layer_norm=norm)
        self.twin = self.critic_net("twin", layer_norm=norm)
        for critic in (self.critic, self.twin):
            init_small_output(critic, 3e-3)
            self.param_group(critic, "critic_learning_rate")
        self.critic_target = self.target_copy(self.critic, every=PERIOD)
        self.twin_target = self.target_copy(self.twin, every=PERIOD)
        zeros = torch.zeros(len(self.seeds), dtype=self.dtype)
        self.register_buffer("policy_loss", zeros)  # of the policy's last step, for the log

    def update(self, batch: Batch) -> Metrics:
        """Steps the critics, every second time the policy; returns losses, Q and |a~' - a'|^2."""
        hp, b = self.hp, batch.background
        assert b.action is not None
        assert b.next_action is not None
        assert b.reward is not None
        assert batch.noise is not None

        # Target: y = r + gamma [min_i Qbar_i(s', a~') - beta_2 |a~' - a'|^2], at a terminal y = r,
        # where a~' = clip(pibar(s') + clip(N(0, policy_noise^2))) and a' is the data's next action.
        limit, deviation = hp.noise_clip.unsqueeze(-1), hp.policy_noise.unsqueeze(-1)
        with torch.no_grad():
            noise = (deviation * box_muller(*batch.noise.chunk(2, -1))).clamp(-limit, limit)
            next_action = (self.policy_target.mode(b.next_obs) + noise).clamp(-1.0, 1.0)
            next_pair = torch.cat([b.next_obs, next_action], -1)
            next_q = torch.minimum(self.critic_target(next_pair), self.twin_target(next_pair))
            next_distance = (next_action - b.next_action).square().sum(-1)  # [P, B]
            next_q = next_q - hp.critic_penalty * next_distance

        # Critics: L_Q = sum_i E[(Q_i(s, a) - y)^2].
        pair, one = torch.cat([b.obs, b.action], -1), torch.ones_like(hp.gamma)
        pairs, critic_loss = [], torch.zeros_like(self.policy_loss)
        for critic in (self.critic, self.twin):
            q = critic(pair)  # [P, B]
            loss, gradient, _, _ = self.ops.advantage(
                v=q.detach(), next_v=next_q, policy_next_v=None, reward=b.reward,
                terminal=b.terminal, share=one, gamma=hp.gamma, temperature=one, max_weight=one,
                expectile=None, absorbing=self.cfg.absorbing, policy_absorbing=False, policy_rows=0,
            )  # fmt: skip
            critic_loss = critic_loss + loss
            pairs.append((q, gradient))
        self.apply_gradients(pairs, self.critic, self.twin)

        # Policy, in every second update, with q = min_i Q_i(s, pi(s)):
        # L_pi = E[beta_1 |pi(s) - a|^2] - E[q] / E[|q|], the divisor constant.
        if self.phase == PERIOD - 1:
            action = self.policy.mode(b.obs)
            policy_pair = torch.cat([b.obs, action], -1)
            q = torch.minimum(self.critic(policy_pair), self.twin(policy_pair))
            penalty = (hp.policy_penalty * (action - b.action).square().sum(-1)).mean(1)  # [P]
            scale = q.detach().abs().mean(1) if self.cfg.normalizes_q else torch.ones_like(penalty)
            policy_loss = penalty - q.mean(1) / scale
            self.minimise(policy_loss, self.policy)
            self.policy_loss.copy_(policy_loss.detach())
        return {
            "critic_loss": critic_loss,
            "policy_loss": self.policy_loss.clone(),
            "critic_mean": pairs[0][0].detach().mean(1),
            "next_distance": next_distance.mean(1),
        }
