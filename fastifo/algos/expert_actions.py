"""What a privileged method requires of the expert's actions."""

from fastifo.data.dataset import Dataset
from fastifo.data.formats.actions import ROUNDING


def check_expert_actions(method: str, dataset: Dataset, remedy: str) -> None:
    """Raises ValueError unless the expert has actions, in the format of the background's.

    method: its name.  remedy: what to do without them.
    """
    action = None if dataset.expert is None else dataset.expert.action
    if action is None:
        raise ValueError(
            f"{method} needs the expert's actions; the dataset has none. Pass 'action' in every "
            f"expert episode, or {remedy}"
        )
    if action.shape[1] != dataset.action_dim or not bool((action.abs() <= 1.0 + ROUNDING).all()):
        raise ValueError(
            f"{method} learns from the expert's actions; expected {dataset.action_dim} numbers in "
            f"[-1, 1] each, found {action.shape[1]}, from {float(action.min()):.4g} to "
            f"{float(action.max()):.4g}"
        )
