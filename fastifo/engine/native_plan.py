"""Fills the plan of a stage for compiled code: sizes, data sources, nets and hyperparameters.

`csrc/engine/plan.h` documents the plan's fields. What depends on the method comes from its
`NativeLoss` and its config; no method is named here.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from fastifo import _C
from fastifo.algos.learner import Learner
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import WITH_NEXT_ACTION, Episodes
from fastifo.data.stack import member_ranges
from fastifo.data.streams import purpose
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.heads import NormalPolicy
from fastifo.nn.mlp import MLP, ScalarNet
from fastifo.nn.packed import FrozenNet, NetState, VectorState

SCALAR_NETS = ("value", "logit", "duals")  # names of the plan's scalar net; a learner has one
PRECISIONS = {"fp32": 0, "fp32x": 2, "bf16": 1, "fp64": 0}  # bfloat16 parts of an operand; 0: none


class NativePlan:
    """A compiled plan, the nets it trains, and the tensors it points to.

    The tensors must outlive the plan: keep this object as long as the plan is in use.
    """

    def __init__(
        self, learner: Learner, dataset: Dataset, needs: frozenset[str], stage: str
    ) -> None:
        """needs: see `Learner.batch_needs`.  stage: its name, which random numbers depend on."""
        assert learner.native_loss is not None
        self.learner, self.loss = learner, learner.native_loss
        self.nets: list[NetState | FrozenNet | VectorState] = []
        self.kept: list[Tensor] = []  # what the plan points to, besides the nets
        self.plan: Any = _C.Plan()
        self._set_sizes()
        self._set_sources(dataset, needs, stage)
        self._set_value_nets()
        self._set_policy()
        self._set_hyperparameters()

    def keep(self, tensor: Tensor) -> int:
        """The address of a tensor's numbers, which stay in place."""
        self.kept.append(tensor.contiguous())
        address = self.kept[-1].data_ptr()
        _C.advise_huge_pages(address, self.kept[-1].nbytes)
        return address

    def _set_sizes(self) -> None:
        plan, learner, encoder = self.plan, self.learner, self.learner.encoder
        plan.method, plan.precision = self.loss.name, learner.precision
        plan.members, plan.batch = len(learner.seeds), learner.batch_rows(learner.cfg)
        plan.seed = self.keep(torch.tensor(learner.seeds, dtype=torch.int64))
        plan.obs_dim = learner.spec.obs_dim + learner.extra_inputs
        plan.scale = encoder.scale.tolist()
        if encoder.standardizes:
            plan.mean, plan.deviation = self.keep(encoder.mean), self.keep(encoder.deviation)

    def _set_sources(self, dataset: Dataset, needs: frozenset[str], stage: str) -> None:
        """Sources of rows, in the order of the batch's rows."""
        plan = self.plan
        window = None  # of successive transitions that a row needs, see `Episodes.windows`
        if needs & {"triples", "next_action"}:
            window = 2 if "triples" in needs else WITH_NEXT_ACTION
        drawn: list[tuple[str, Episodes, int | None]] = [("background", dataset.background, window)]
        if "expert" in needs and dataset.expert is not None:
            drawn.insert(0, ("expert", dataset.expert, window))
        if "initial" in needs:
            drawn.insert(0, ("initial", dataset.background, 0))
        if "policy" in needs:
            drawn.append(("policy", dataset.background, window))
        # Addresses of columns, by identity of their episodes and whether there are actions.
        addresses: dict[tuple[int, bool], dict[str, int]] = {}
        sources = []
        for name, episodes, length in drawn:
            key = id(episodes), name != "expert" or "expert_action" in needs
            if key not in addresses:
                addresses[key] = self._columns(episodes, key[1], "reward" in needs)
            source = _C.SourcePlan()
            source.purpose, source.transitions = purpose(stage, name), episodes.num_transitions
            for column, address in addresses[key].items():
                setattr(source, column, address)
            if length is not None:
                source.windows = self._windows(episodes, length)
            elif episodes.ranges is not None:
                first, count = episodes.ranges.t().contiguous()
                source.first, source.count = self.keep(first), self.keep(count)
            if episodes.reward is not None and episodes.reward.ndim == 2:
                source.reward_stride = episodes.num_transitions
            if episodes.action is not None and episodes.action.ndim == 3:
                source.action_stride = episodes.action[0].numel()
            sources.append(source)
        plan.sources = sources
        plan.mix_purpose = purpose(stage, "mix") if "uniform" in needs else -1
        plan.noise_purpose = purpose(stage, "noise") if "noise" in needs else -1
        plan.policy_sources = 2 if "expert_action" in needs else 1
        plan.next_from = self.loss.next_from

    def _columns(self, episodes: Episodes, with_action: bool, with_reward: bool) -> dict[str, int]:
        """Addresses of the columns in the learner's precision."""
        columns = {"obs": episodes.obs, "terminal": episodes.terminal}
        if episodes.action is not None and with_action:
            columns["action"] = episodes.action
        if episodes.reward is not None and with_reward:
            columns["reward"] = episodes.reward
        addresses = {k: self.keep(v.to(self.learner.dtype)) for k, v in columns.items()}
        return addresses | {"row": self.keep(episodes.rows())}

    def _windows(self, episodes: Episodes, length: int) -> int:
        """Address of a table [P, 3]: addresses of the tensors of `Episodes.windows`, and their
        number of episodes.
        """
        members = len(self.learner.seeds)
        table = torch.zeros(members, 3, dtype=torch.int64)
        for rows, first, count in member_ranges(episodes, members):
            start, before = episodes.windows(length, first, count)
            entry = [self.keep(start), self.keep(before), len(start)]
            table[rows] = torch.tensor(entry, dtype=torch.int64)
        return self.keep(table)

    def _set_value_nets(self) -> None:
        """The scalar net (a value, a discriminator or dual variables), the frozen embedding and the
        two critics, where there are any.
        """
        plan, learner = self.plan, self.learner
        for name in SCALAR_NETS:
            if hasattr(learner, name):
                target = getattr(learner, f"{name}_target", None)
                plan.scalar = self._add_net(getattr(learner, name), target)
        plan.target_period = learner.target_period
        if self.loss.embeds:
            assert isinstance(learner.embedding, MLP)
            self.nets.append(FrozenNet(learner.embedding, PRECISIONS[learner.precision]))
            plan.embedding = self.nets[-1].plan()
        for name in ("critic", "twin"):
            if hasattr(learner, name):
                target = getattr(learner, f"{name}_target")
                setattr(plan, name, self._add_net(getattr(learner, name), target))

    def _set_policy(self) -> None:
        plan, learner = self.plan, self.learner
        if not hasattr(learner, "policy"):
            return
        policy, target = learner.policy, getattr(learner, "policy_target", None)
        assert not isinstance(policy, ScalarNet)
        plan.policy = self._add_net(policy.body, None if target is None else target.body)
        policy_loss = getattr(learner, "policy_loss", None)  # of a policy that seldom makes a step
        if policy_loss is not None:
            plan.policy_loss = self.keep(policy_loss)
        plan.action_dim = learner.spec.action_dim
        plan.policy_decay_updates = getattr(learner.cfg, "policy_decay_updates", 0)
        if isinstance(policy, BinnedPolicy):
            plan.bins = policy.num_bins
            plan.taps, plan.norm = self.keep(policy.taps), self.keep(policy.norm)
            plan.radius = policy.taps.shape[1] - 1
        if isinstance(policy, NormalPolicy):
            self.nets.append(VectorState(policy.log_std))
            plan.log_std = self.nets[-1].plan()

    def _add_net(self, net: Any, target: Any) -> Any:
        self.nets.append(NetState(net, target, PRECISIONS[self.learner.precision]))
        return self.nets[-1].plan()

    def _set_hyperparameters(self) -> None:
        plan, loss, cfg = self.plan, self.loss, self.learner.cfg
        fields = [field.name for field in dataclasses.fields(cfg)]
        values = {name: [getattr(c, name) for c in self.learner.configs] for name in fields}
        numbers = {k: v for k, v in values.items() if type(v[0]) in (int, float)}
        plan.numbers = numbers | self._rates_and_decays()
        plan.flags = {
            **{name: column[0] for name, column in values.items() if isinstance(column[0], bool)},
            **{flag: getattr(cfg, name) == value for flag, (name, value) in loss.flags.items()},
            "scalar_pair": "scalar" in loss.pairs,
            "policy_pair": "policy" in loss.pairs,
            "sums_error": getattr(getattr(self.learner, "policy", None), "sums_error", False),
        }

    def _rates_and_decays(self) -> dict[str, list[float]]:
        """Learning rate and weight decay of each net, one number per member."""
        numbers: dict[str, list[float]] = {}
        kinds = {"policy": "policy", "critic": "critic", **dict.fromkeys(SCALAR_NETS, "scalar")}
        for name, kind in kinds.items():
            net = getattr(self.learner, name, None)
            if net is not None:
                rate, decay = self.learner.param_group_of(net)
                numbers |= {f"{kind}_rate": rate.tolist(), f"{kind}_decay": decay.tolist()}
        return numbers
