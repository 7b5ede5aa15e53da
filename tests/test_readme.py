"""The README's promises that a machine can check."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from eoc.model import PARAMETERIZATIONS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
GROUPS = sorted({path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"hydra"})


def test_example_without_lightning_trains_in_the_catapult_phase(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len(code.splitlines()) < 40
    assert not re.search(r"lightning|hydra|wandb", code)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    losses = [float(re.search(r"loss ([\d.]+)", line).group(1)) for line in lines]
    assert len(losses) == 50
    assert losses[-1] < 0.2 * losses[0]
    assert sum(after > before for before, after in itertools.pairwise(losses)) >= 5  # it bounces
    assert "cosine +nan" in lines[0]


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_each_scaling_rule_links_to_its_line_of_code(name: str) -> None:
    file, line = re.search(rf"\| \[`{name}`\]\(([\w/.]+)#L(\d+)\)", README).groups()
    assert f'"{name}": Parameterization(' in (ROOT / file).read_text().splitlines()[int(line) - 1]


@pytest.mark.parametrize("group", GROUPS)
def test_each_config_group_is_listed_with_its_choices(group: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| [`{group}`](conf/{group})"))
    choices = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
    if group == "callbacks":
        choices = {"default", "none"}
    assert {choice for choice in choices if f"`{choice}`" not in row} == set()


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", here.read_text()):
        file = (here.parent / target).resolve() if target else here
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
            assert anchor in map(slug, re.findall(r"^#+ (.*)$", text, re.MULTILINE)), f"{target}#{anchor}"
