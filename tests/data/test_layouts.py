"""Every layout of `layouts.py` is read as the episodes in it."""

from pathlib import Path

import pytest

from data.layout_table import LAYOUTS, Layout
from data.layouts import check
from data.other_layouts import OTHER_LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS + OTHER_LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_is_read_as_the_episodes_in_it(tmp_path: Path, layout: Layout) -> None:
    assert check(layout, tmp_path) == []
