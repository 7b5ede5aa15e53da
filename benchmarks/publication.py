"""Where the numbers of a benchmark go: as JSON beside its script, and between their marks in a page of docs/."""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def publish(script: str, result: dict, tables: dict[str, str], page: str) -> None:
    """Save ``result`` beside the script, and put each of the tables into the page."""
    Path(script).with_suffix(".json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name, text in tables.items():
        place(DOCS / page, name, text)


def place(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n\n{text.rstrip()}\n\n{end}{after}")
