"""Flags that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastifo.data.dataset import Dataset
from fastifo.data.formats.options import split_spec
from fastifo.data.load import load
from fastifo.engine.run import Run
from fastifo.utils.text import parse_value

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "fp32x", "tf32", "bf16", "fp64"]
Engine = Literal["auto", "torch", "native"]
Play = Literal["sampled", "mode", "both"]
DETERMINISTIC: dict[Play, tuple[bool, ...]] = {  # the evaluations that --play asks for
    "sampled": (False,),
    "mode": (True,),
    "both": (False, True),
}
SPEC_HELP = "A file, or a spec such as sibench:Hopper-v4/d=5 or d4rl:hopper-medium-v2."


def parse_values(
    flag: str, texts: tuple[str, ...], example: str = "temperature=3"
) -> dict[str, Any]:
    """NAME=VALUE texts as a dict.

    A value that is neither JSON nor a Python literal (a number, true, True, a tuple) is text.
    flag, example: for the message.  Raises ValueError for a text of another form.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{flag}: expected NAME=VALUE such as {example}, found {text!r}")
        if name in values:
            raise ValueError(f"{flag}: expected each name once, found {name} twice")
        values[name] = parse_value(value)
    return values


def env_kwargs(texts: tuple[str, ...]) -> dict[str, Any] | None:
    """The settings of --env-arg; None without any."""
    return parse_values("--env-arg", texts, "max_episode_steps=200") or None


def choose_member(run: Run, text: str) -> int:
    """The member of --member: its number, or best, the one with the highest return.  Prints it.

    Raises ValueError for another text, or best without returns.
    """
    if text == "best":
        best = run.best()
        print(best)
        return best.member
    if not (text.isascii() and text.isdigit() and int(text) < len(run)):
        raise ValueError(f"--member: expected best or a number below {len(run)}, found {text}")
    print(run.describe(int(text)))
    return int(text)


@dataclass(frozen=True)
class Source:
    """The data to read: one dataset, or an expert and a background."""

    dataset: tuple[str, ...] = ()
    """A file, or a spec such as sibench:Hopper-v4/d=5 or d4rl:hopper-medium-v2; several are
    combined into one dataset."""
    expert: tuple[str, ...] = ()
    """Files or specs of the expert's observations; used with --background instead of --dataset."""
    background: tuple[str, ...] = ()
    """Files or specs of the background, which has actions; used instead of --dataset."""
    env_id: str = ""
    """Environment for evaluation, if the data does not name it: an EnvPool or Gymnasium id, or
    module:function; none disables evaluation."""

    def files(self) -> set[Path]:
        """The files that the flags name, as resolved paths."""
        texts = [*self.dataset, *self.expert, *self.background]
        texts += [split_spec(text.partition(":")[2])[0] for text in texts if ":" in text]
        texts += [split_spec(text)[0] for text in texts]
        return {Path(text).resolve() for text in texts if Path(text).is_file()}

    def load(self) -> Dataset:
        """Reads or builds the dataset.  Raises ValueError where no data is named."""
        if not self.dataset and not self.background:
            raise ValueError("dataset: expected --dataset, or --expert and --background")
        return load(
            self.dataset or None,
            expert=self.expert or None,
            background=self.background or None,
            env_id=self.env_id or None,
        )
