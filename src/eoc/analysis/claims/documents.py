"""Tables of claims inside Markdown documents, filled from ``results/`` so that no number is copied by hand.

A document marks a place with ``<!-- claims: digits/depth_curvature -->`` … ``<!-- end -->``: the claims of one
experiment, or, with ``<!-- claims: digits -->``, those of the paper and its companions from all experiments.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from eoc.analysis.claims.base import COMPANION, PAPER, Estimate
from eoc.analysis.claims.results import CLAIMS

PLACE = re.compile(r"(<!-- claims: (\w+)(?:/(\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(document: Path, results: Path) -> bool:
    """Fill the places of ``document`` from ``results/<dataset>/claims.json``; return whether anything changed."""
    before = document.read_text()
    after = PLACE.sub(lambda match: f"{match[1]}{table(results / match[2], match[3])}\n{match[4]}", before)
    if after != before:
        document.write_text(after)
    return after != before


def table(results: Path, experiment: str | None) -> str:
    """The claims of one experiment, or without its name those of the paper and its companions, as Markdown."""
    claims = json.loads((results / CLAIMS).read_text())["claims"]
    chosen = [claim for claim in claims if experiment in (None, claim["experiment"])]
    if experiment is None:
        chosen = [claim for claim in chosen if claim["source"] in (PAPER, COMPANION)]
    lines = ["| claim | whose | criterion | measured [95%] | verdict |", "|---|---|---|---|---|"]
    for claim in chosen:
        said = claim["claim"] + (f" *{claim['remark']}.*" if claim["remark"] else "")
        cells = (said, claim["source"], claim["criterion"], _estimate(claim["measured"]), f"**{claim['verdict']}**")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _estimate(node: dict[str, Any]) -> str:
    return str(Estimate(*(float("nan") if node[key] is None else node[key] for key in ("value", "low", "high"))))
