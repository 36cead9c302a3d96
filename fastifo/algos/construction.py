"""What a learner is built from: hyperparameter tensors, nets, target copies and the optimizer.

`fastifo/algos/learner.py` is the contract of an algorithm. The helpers here are what an algorithm
calls in `build` (`make_policy`, `scalar_net`, `critic_net`, `target_copy`, `param_group`) and at
the end of `update` (`minimise`, `apply_gradients`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from fastifo import ops
from fastifo.algos.config import float_fields
from fastifo.data.episodes import Episodes
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.encoder import Encoder
from fastifo.nn.heads import (
    NORMAL_LOG_STD_LIMITS,
    DeterministicPolicy,
    GaussianPolicy,
    NormalPolicy,
)
from fastifo.nn.mlp import MLP, Init, ScalarNet
from fastifo.nn.optimizer import Adam, ParamGroup, TargetUpdate
from fastifo.nn.pixels import CameraSpec, PixelInputs, with_frames
from fastifo.utils.devices import PRECISIONS
from fastifo.utils.parallel import BLOCK
from fastifo.utils.records import Record

Net = TypeVar("Net", bound=nn.Module)
IMAGE_BLOCK = 256  # rows with pixels per call; each takes 1 MB while it is encoded
Policy = BinnedPolicy | DeterministicPolicy | GaussianPolicy | NormalPolicy


@dataclass(frozen=True, eq=False, repr=False)
class InputSpec(Record):
    """Sizes and statistics of the data that a learner is built for."""

    obs_dim: int  # D, width of an observation
    action_dim: int  # A, width of an action
    obs_mean: Tensor | None = None  # [D]; used where the config has standardize_obs
    obs_std: Tensor | None = None  # [D]; standard deviation, used with obs_mean
    images: tuple[CameraSpec, ...] = ()  # name, height, width, channels of each camera


class GroupFields(NamedTuple):
    """Parameters, and the config fields that set their optimizer group: see `param_group`."""

    parameters: list[nn.Parameter]
    rate: str  # field of the learning rate
    decays: tuple[str, ...]  # fields whose sum is the weight decay
    cosine_updates: int  # updates of the rate's decay to 0; 0: constant
    period: int  # the parameters train in updates `period`, 2 * `period`, ...


class Construction(nn.Module):
    """Base of `Learner`: holds its configs as tensors, and builds and steps its nets.

    P is the number of members, one config and one seed each.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        seeds: Sequence[int],
        spec: InputSpec,
        precision: str,
        *,
        fused: bool,
        deviation_epsilon: float,
    ) -> None:
        """Arguments as in `Learner`.  deviation_epsilon: added to `spec.obs_std`."""
        super().__init__()
        self.fused = fused
        self.ops = ops.choose(fused)  # ops by name: compiled, or their references
        self.cfg: Any = configs[0]  # read it for int, bool, str and tuple fields only
        self.configs = tuple(configs)
        self.seeds = tuple(seeds)
        self.spec = spec
        self.precision = precision
        self.dtype, self.bf16 = PRECISIONS[precision]
        self.hp = SimpleNamespace(
            **{
                name: self._field(name, self.dtype)[:, None]
                for name in float_fields(type(self.cfg))
            }
        )  # float fields by name, [P, 1] each
        self.num_updates = 0  # updates made so far
        self.counter = torch.zeros(1, dtype=torch.int64)  # num_updates on the device, for the ops
        self.net_names: set[str] = set()
        self.target_of_parameter: dict[Tensor, Tensor] = {}
        self.target_period = 1  # updates between refreshes of the target copies
        self.targets_copy_until = 0  # before this update targets are hard copies, despite `polyak`
        self.param_groups: list[GroupFields] = []
        self.optimizer: Adam | None = None

        # With absorbing_indicator, observations have one more entry, which is 1 after the end.
        cfg = self.cfg
        self.extra_inputs = int(getattr(cfg, "absorbing_indicator", False))
        width = spec.obs_dim + self.extra_inputs
        self.encoder = Encoder(width, cfg.encoder_scales, cfg.standardize_obs, self.dtype)
        if spec.obs_mean is not None and spec.obs_std is not None:
            self.encoder.set_statistics(spec.obs_mean, spec.obs_std + deviation_epsilon)

    # Nets

    def make_policy(
        self,
        name: str = "policy",
        inputs: int = 1,
        *,
        sums_error: bool = False,
        log_std_limits: tuple[float, float] = NORMAL_LOG_STD_LIMITS,
    ) -> Policy:
        """A policy with the config's `policy_head`.

        name: seeds the initial weights, see `Init`.  inputs: the number of observations that it
        reads, concatenated, each with its pixels.  sums_error: see `DeterministicPolicy`.
        log_std_limits: see `NormalPolicy`.
        """
        cfg = self.cfg
        outputs_per_action = {"binned": cfg.num_bins, "gaussian": 2}.get(cfg.policy_head, 1)
        init, widths, front = self._net(name, self.spec.action_dim * outputs_per_action, inputs)
        heads = 2 if cfg.policy_head == "gaussian" else 1  # mean and log deviation
        body = MLP(init, widths, cfg.activation, self.bf16, output_heads=heads, front=front)
        if cfg.policy_head == "deterministic":
            return DeterministicPolicy(body, sums_error=sums_error)
        if cfg.policy_head == "gaussian":
            return GaussianPolicy(body)
        if cfg.policy_head == "normal":
            return NormalPolicy(body, log_std_limits)
        kernel_widths = self.hp.kernel_width.squeeze(1).tolist()
        return BinnedPolicy(
            body, self.spec.action_dim, cfg.num_bins, kernel_widths, cfg.kernel_reading, self.ops
        )

    def scalar_net(self, name: str, inputs: int = 1) -> ScalarNet:
        """A net with one output, such as V(s).  name, inputs: as in `make_policy`.

        It maps [P, B, inputs * width] to [P, B].
        """
        init, widths, front = self._net(name, 1, inputs)
        return ScalarNet(init, widths, self.cfg.activation, self.bf16, front=front)

    def critic_net(self, name: str, *, layer_norm: bool = False) -> ScalarNet:
        """A net Q(s, a) that reads an observation and an action, concatenated.

        name: as in `make_policy`.  layer_norm: normalise after each hidden layer.
        """
        init, widths, front = self._net(name, 1, 1)
        widths[0] += self.spec.action_dim
        return ScalarNet(
            init, widths, self.cfg.activation, self.bf16, layer_norm=layer_norm, front=front
        )

    def _net(
        self, name: str, outputs: int, inputs: int
    ) -> tuple[Init, list[int], PixelInputs | None]:
        """Initial weights of a net, the widths of its layers, and its encoders of frames."""
        assert all(other[:4] != name[:4] for other in self.net_names), name
        self.net_names.add(name)
        cfg = self.cfg
        init = Init(self.seeds, name, cfg.init, self.dtype)
        front = None
        width = inputs * self.encoder.width
        if self.spec.images:
            front = PixelInputs(
                init, self.spec.images, self.encoder.width, inputs, cfg.image_encoder,
                cfg.image_features, self.bf16,
            )  # fmt: skip
            width = front.width
        return init, [width, *cfg.hidden_sizes, outputs], front

    def target_copy(self, net: Net, every: int) -> Net:
        """A copy of `net` without gradients, refreshed after updates `every`, 2 * `every`, ...

        The refresh is target += polyak * (net - target), a hard copy where the config has no
        `polyak`. The optimizer makes it when it steps `net`, so `net` must train in that update.
        All targets of a learner share one `every`.
        """
        target = copy.deepcopy(net)
        self.target_of_parameter |= dict(zip(net.parameters(), target.parameters(), strict=True))
        self.target_period = every
        return target.requires_grad_(False)

    def param_group(
        self,
        net: nn.Module,
        rate: str = "learning_rate",
        decays: tuple[str, ...] = ("weight_decay",),
        cosine_updates: int = 0,
        period: int = 1,
    ) -> None:
        """Gives a net its own optimizer settings; nets without a group have these defaults.

        rate: the config field with its learning rate.  decays: the fields whose sum is its weight
        decay.  cosine_updates: the rate decays to 0 over this many updates along a cosine; 0 keeps
        it constant.  period: the net trains in updates `period`, 2 * `period`, ... only.
        """
        parameters = list(net.parameters())
        self.param_groups.append(GroupFields(parameters, rate, decays, cosine_updates, period))

    # Inputs of the nets

    def inputs(self, obs: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """What the nets read, without augmentation: encoded observations, and pixels if any.

        obs: raw, [..., D], on any device.  images: uint8 [..., H, W, C] by camera.
        """
        x: Tensor = self.encoder(obs.to(self.encoder.mean.device, self.dtype))
        cameras = [name for name, *_ in self.spec.images]
        return with_frames(x, [images[name] for name in cameras]) if cameras else x

    def inputs_of(self, episodes: Episodes, rows: Tensor) -> Tensor:
        """`inputs` of some of the observations, [n, width].  rows: [n] int64 on the CPU."""
        cameras = [name for name, *_ in self.spec.images]
        images = {name: episodes.images[name].read(rows) for name in cameras}
        return self.inputs(episodes.obs[rows], images)

    @property
    def block_rows(self) -> int:
        """Rows that `inputs_of` is called for at a time; pixels take much more memory."""
        return IMAGE_BLOCK if self.spec.images else BLOCK

    # Optimizer steps

    def minimise(self, loss: Tensor, *nets: nn.Module) -> None:
        """One Adam step of `nets` down the gradient of each member's own loss, [P]."""
        parameters = [p for net in nets for p in net.parameters()]
        self.optimizer_step(parameters, torch.autograd.grad(loss.sum(), parameters))

    def apply_gradients(self, pairs: Sequence[tuple[Tensor, Tensor]], *nets: nn.Module) -> None:
        """One Adam step of `nets`, given the losses' gradients in their outputs.

        pairs: (an output of a net, the loss's gradient in it), of one shape each.
        """
        parameters = [p for net in nets for p in net.parameters()]
        outputs, gradients = zip(*pairs, strict=True)
        self.optimizer_step(parameters, torch.autograd.grad(outputs, parameters, gradients))

    def optimizer_step(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """One Adam step of `parameters`; refreshes their target copies when due."""
        # Second derivatives may come with other strides.
        contiguous = [gradient.contiguous() for gradient in gradients]
        self._started_optimizer().step(parameters, contiguous, self.counter)

    def start_optimizer(self) -> None:
        """Creates the optimizer, with moments of zero for every parameter that trains."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        rate, decay = self._column("learning_rate"), self._column("weight_decay")
        groups = [ParamGroup(parameters, rate, decay)]  # of the parameters without another group
        groups += [
            ParamGroup(
                group.parameters,
                self._column(group.rate),
                sum(map(self._column, group.decays), torch.zeros_like(rate)),
                group.cosine_updates,
                group.period,
            )
            for group in self.param_groups
        ]
        targets = TargetUpdate(
            self.target_of_parameter,
            every=self.target_period,
            polyak=self._column("polyak"),
            hard_copy_until=self.targets_copy_until,
        )
        self.optimizer = Adam(
            parameters,
            groups,
            targets,
            decoupled=self.cfg.decoupled_weight_decay,
            fused=self.fused,
        )

    def param_group_of(self, net: nn.Module) -> tuple[Tensor, Tensor]:
        """Learning rate (before its cosine decay) and weight decay of a net, float64 [P] each."""
        group = self._started_optimizer().param_group_of[next(net.parameters())]
        return group.rate, group.decay

    def _started_optimizer(self) -> Adam:
        if self.optimizer is None:
            self.start_optimizer()
        assert self.optimizer is not None
        return self.optimizer

    def _column(self, name: str) -> Tensor:
        """A config field of every member on the device, float64 [P]; 1 where it does not exist."""
        return self._field(name, torch.float64).to(self.counter.device)

    def _field(self, name: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([getattr(config, name, 1.0) for config in self.configs], dtype=dtype)
