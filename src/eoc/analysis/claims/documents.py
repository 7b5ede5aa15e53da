"""Tables of claims inside Markdown documents, filled from ``results/`` so that no number is copied by hand.

A document marks a place with ``<!-- claims: digits/depth_curvature -->`` … ``<!-- end -->``: the claims of one
experiment, or, with ``<!-- claims: digits -->``, those of the paper and its companions from all experiments.
``<!-- compare: digits, mnist -->`` sets data sets side by side for the claims of the paper and its companions,
``<!-- compare: digits, mnist: all -->`` for all, ``<!-- compare: digits, mnist: shared -->`` for those that were
judged on each, and ``<!-- compare: digits, mnist: differing -->`` for those of them with different verdicts. What
sentences say is filled by `prose`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from eoc.analysis.claims.base import COMPANION, READ, UNKNOWN, Estimate
from eoc.analysis.claims.prose import filled
from eoc.analysis.claims.results import CLAIMS
from eoc.errors import InvalidInput

PLACE = re.compile(r"(<!-- claims: (\w+)(?:/(\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
COMPARED = re.compile(r"(<!-- compare: ([\w, ]+)(: all|: shared|: differing)? -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(document: Path, results: Path) -> bool:
    """Fill the places of ``document`` from ``results/<dataset>/``; return whether anything changed.

    Raises:
        InvalidInput: if the document cannot be read, or names what is not there or cannot be computed.
    """
    if not document.is_file():
        raise InvalidInput("--fill", str(document), "there is no such file")
    before = document.read_text()
    after = PLACE.sub(lambda match: f"{match[1]}{table(results / match[2], match[3])}\n{match[4]}", before)
    after = COMPARED.sub(
        lambda match: f"{match[1]}{comparison(results, match[2].split(', '), which=match[3])}\n{match[4]}", after
    )
    after = filled(after, results)
    if after != before:
        document.write_text(after)
    return after != before


def table(results: Path, experiment: str | None) -> str:
    """The claims of one experiment, or without its name those of the paper and its companions, as Markdown."""
    claims = _recorded(results)["claims"]
    chosen = [claim for claim in claims if claim["experiment"] == experiment or (experiment is None and _known(claim))]
    lines = ["| claim | whose | criterion | measured [95%] | verdict |", "|---|---|---|---|---|"]
    for claim in chosen:
        said = claim["claim"] + (f" *{claim['remark']}.*" if claim["remark"] else "")
        measured = Estimate.read(claim["measured"])
        lines.append(_row(said, claim["source"], claim["criterion"], str(measured), f"**{claim['verdict']}**"))
    return "\n".join(lines)


def comparison(results: Path, datasets: list[str], *, which: str | None) -> str:
    """What was measured on several data sets, and its verdict.

    Args:
        results: the folder of all data sets' results.
        datasets: folders in it.
        which: ": all" claims, those ": shared" by all data sets, of these those ": differing" in their verdicts, or
            None: those of the paper and its companions.
    """
    read = [_recorded(results / name) for name in datasets]
    found = [{(claim["experiment"], claim["name"]): claim for claim in each["claims"]} for each in read]
    lines = [_row("claim", "criterion", *(each["dataset"] for each in read)), "|---" * (2 + len(read)) + "|"]
    for key in dict.fromkeys(key for each in found for key in each):
        claims = [each.get(key) for each in found]
        first = next(claim for claim in claims if claim is not None)
        judged = [claim for claim in claims if claim is not None and claim["verdict"] != UNKNOWN]
        shared = len(judged) == len(found)
        differing = shared and len({claim["verdict"] for claim in judged}) > 1
        if {": all": True, ": shared": shared, ": differing": differing, None: _known(first)}[which]:
            cells = (
                "–" if claim is None else f"{Estimate.read(claim['measured'])} **{claim['verdict']}**"
                for claim in claims
            )
            lines.append(_row(first["claim"], first["criterion"], *cells))
    return "\n".join(lines)


def _recorded(folder: Path) -> dict[str, Any]:
    if not (folder / CLAIMS).is_file():
        raise InvalidInput("--fill", folder.name, f"a document names it, and there is no {folder / CLAIMS}")
    recorded: dict[str, Any] = json.loads((folder / CLAIMS).read_text())
    return recorded


def _known(claim: dict[str, Any]) -> bool:
    return claim["source"] in (READ, COMPANION)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
