"""What a report reads of a run: the members that trained on one dataset."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.summary import differing_fields, setting_text
from fastifo.envs.returns import Returns
from fastifo.utils.text import number_texts


@dataclass(frozen=True)
class RunSummary:
    """The members of one run folder that trained on one dataset: P members, E episodes each."""

    folder: Path  # the run folder
    config: dict[str, Any]  # config.json; `algorithm` includes the backbone, as in tge-rebrac
    dataset: dict[str, Any]  # the entry of config["datasets"]
    members: list[int]  # [P], indices into config["members"]
    returns: Returns | None  # of sampled actions, [P, E]; None before an evaluation
    deterministic: Returns | None  # of the policies' modes
    metrics: list[dict[str, Any]]  # rows of metrics.jsonl of these members
    label: str  # the algorithm, or the folder where several runs have the same algorithm
    setting: str = ""  # what these members share and others of the run do not: temperature=0.3

    @property
    def algorithm(self) -> str:
        """The algorithm with its backbone: tge, tge-rebrac."""
        name: str = self.config["algorithm"]
        return name

    @property
    def series(self) -> str:
        """What distinguishes these policies in a study: the algorithm, and their setting."""
        return f"{self.algorithm}, {self.setting}" if self.setting else self.algorithm

    @property
    def name(self) -> str:
        """The label and the setting, for tables and figures."""
        return f"{self.label}, {self.setting}" if self.setting else self.label

    @property
    def is_evaluated(self) -> bool:
        """Whether returns of sampled actions or of the mode are known."""
        return self.returns is not None or self.deterministic is not None

    @property
    def seeds(self) -> list[int]:
        """[P], the members' seeds."""
        return [int(self.config["members"][member]["seed"]) for member in self.members]

    @property
    def env_id(self) -> str | None:
        """The environment; None where the data name none."""
        name: str | None = self.config["env_id"]
        return name

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        """Returns of scores 0 and 100 that the dataset states; None: D4RL's."""
        pair = self.config.get("reference_returns")
        return None if pair is None else (float(pair[0]), float(pair[1]))

    @property
    def set_name(self) -> str:
        """The number that distinguishes a benchmark's sets, such as d=5; empty for other data."""
        spec = self.dataset["info"].get("spec")
        fields = spec if isinstance(spec, dict) else {}  # of other data it is a text
        names = [name for name in ("background_noise", "d", "expert") if name in fields]
        return f"{names[0]}={fields[names[0]]}" if names else ""

    @property
    def background_returns(self) -> list[float] | None:
        """Return of each background episode; None without rewards."""
        returns: list[float] | None = self.dataset.get("background_returns")
        return returns

    @property
    def background_mean(self) -> float:
        """Mean of `background_returns`, which must be known."""
        assert self.background_returns is not None
        return float(np.mean(self.background_returns))

    @property
    def background_success(self) -> float | None:
        """Share of background episodes in which the task succeeded; None where it is unknown."""
        rate: float | None = self.dataset.get("background_success")
        return rate

    @property
    def expert_success(self) -> float | None:
        """Share of the expert's episodes without noise that succeeded; None where unknown."""
        rate: float | None = self.dataset["info"].get("expert_success")
        return rate

    @property
    def expert_returns(self) -> list[float] | None:
        """Return of each of the expert's episodes without noise; None where they are unknown."""
        returns: list[float] | None = self.dataset["info"].get("expert_returns")
        return returns

    @property
    def has_diverged(self) -> bool:
        """Whether every member diverged, so that there is nothing to evaluate."""
        failed = self.config.get("failed", {})
        return all(str(member) in failed for member in self.members)

    @property
    def train_s(self) -> float | None:
        """Seconds spent in updates, over all processes that trained the run."""
        return Checkpoints(self.folder / "checkpoint").train_s or None

    def member_config(self, member: int) -> dict[str, Any]:
        """The algorithm's fields of one member."""
        config: dict[str, Any] = self.config["members"][member].get("config", {})
        return config

    def by_setting(self) -> list["RunSummary"]:
        """The run itself, or one summary for each setting of a sweep, in the order of members."""
        configs = [self.member_config(member) for member in self.members]
        swept = differing_fields(configs)
        rows: dict[str, list[int]] = {}
        for row, config in enumerate(configs):
            rows.setdefault(setting_text({name: config[name] for name in swept}), []).append(row)
        return [self._part(setting, chosen) for setting, chosen in rows.items()]

    def _part(self, setting: str, rows: list[int]) -> "RunSummary":
        members = [self.members[row] for row in rows]
        return dataclasses.replace(
            self,
            members=members,
            returns=None if self.returns is None else self.returns.part(rows),
            deterministic=None if self.deterministic is None else self.deterministic.part(rows),
            metrics=[row for row in self.metrics if row.get("member", members[0]) in members],
            setting=setting,
        )

    def best(self) -> str:
        """The best member of each evaluation, as text; empty where there is none."""
        found = []
        for kind, returns in (("sampled actions", self.returns), ("the mode", self.deterministic)):
            if returns is None or np.isnan(returns.per_member).all():
                continue
            row = int(np.nanargmax(returns.per_member))
            config, member = self.member_config(self.members[row]), self.members[row]
            swept = differing_fields([self.member_config(member) for member in self.members])
            fields = setting_text({"seed": self.seeds[row]} | {n: config[n] for n in swept})
            (mean,) = number_texts([returns.per_member[row]])
            found.append(f"member {member} ({fields}) with {mean} by {kind}")
        return "; ".join(found)
