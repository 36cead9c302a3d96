"""A report as one HTML page that needs no other file."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastifo.report.tables import Table
from fastifo.utils.files import write_bytes

STYLE = """body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 70em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; text-align: right }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
img { max-width: 100% } pre { background: #f6f6f6; padding: 1em; overflow-x: auto }
summary { cursor: pointer }"""


def table(content: Table) -> str:
    """A heading, a table of text cells, and the remarks below it."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = [line(content.header, "th"), *(line(row, "td") for row in content.rows)]
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in content.notes)
    title = html.escape(content.title)
    return f"<h2>{title}</h2>\n<table>\n" + "\n".join(body) + f"\n</table>{notes}"


def image(title: str, path: Path) -> str:
    """A heading and the PNG file `path`, which becomes part of the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(title)
    return f'<h2>{name}</h2>\n<img alt="{name}" src="data:image/png;base64,{content}">'


def config(title: str, content: dict[str, Any]) -> str:
    """A run's config as JSON, folded until its title is clicked."""
    text = html.escape(json.dumps(content, indent=1))
    return f"<details><summary>{html.escape(title)}</summary><pre>{text}</pre></details>"


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Writes a page of the given parts.  Raises OSError naming the file."""
    body = "\n".join(parts)
    name = html.escape(title)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f"<style>{STYLE}</style></head>\n<body><h1>{name}</h1>\n{body}\n</body></html>\n"
    )
    write_bytes(path, page.encode(errors="replace"))
