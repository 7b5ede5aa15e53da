"""The page in a real browser without a window: clicks do what they say, and nothing is asked of a network.

Needs Chromium on the PATH (Debian: ``apt-get install chromium``) and is skipped without.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from eoc.analysis.report import server
from support import NO_FIGURE, trained

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 180.0  # s, for a machine that is busy with other things

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=root)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for depth in (3, 4):
        for seed in (0, 1):
            trained(folder / f"{depth}-{seed}", NO_FIGURE, f"model.depth={depth}", f"seed={seed}")
    return folder


@contextmanager
def opened(browser: Any, folder: Path) -> Iterator[Any]:
    """The served page of a folder; at the end nothing has complained, and nothing else was asked for."""
    with server(folder, 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{serving.server_port}/"
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        try:
            page.goto(address)
            page.wait_for_selector(".plot.drawn")
            yield page
            assert complaints == []
            assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [address]
        finally:
            page.close()
            serving.shutdown()
            thread.join()


def panel(page: Any, title: str) -> Any:
    found = page.locator(f'section[aria-label^="{title}"]')
    found.scroll_into_view_if_needed()
    found.locator(".plot.drawn").wait_for()
    return found


def shows(found: Any, expected: list[bool], seconds: float = PATIENCE) -> None:
    """Wait until just these traces of a panel are shown."""
    end = time.monotonic() + seconds
    while True:
        shown = found.locator(".plot").evaluate("plot => plot.data.map(trace => trace.visible)")
        if (visible := [value not in (False, "legendonly") for value in shown]) == expected:
            return
        assert time.monotonic() < end, f"{visible}"
        found.page.wait_for_timeout(50)


def test_a_run_can_be_looked_into(browser: Any, runs: Path, tmp_path: Path) -> None:
    with opened(browser, runs / "3-0") as page:
        loss = panel(page, "Loss")
        shows(loss, [True, True])
        page.screenshot(path=str(tmp_path / "page.png"))
        loss.locator(".legendtoggle").nth(1).click()
        shows(loss, [True, False])
        the_axis_becomes_logarithmic_and_linear(panel(page, "Accuracy"))
        hovering_shows_values(page, panel(page, "Sharpness"))
        assert page.locator("#settings details").get_attribute("open") is None
        page.locator("#runs tbody td span[title]").click()
        rows = page.locator("#settings tr").all_text_contents()
        assert page.locator("#settings details").get_attribute("open") is not None
        assert "model.depth3" in rows
        assert any(row.startswith("summary.parameters") for row in rows)
    picture = imread(tmp_path / "page.png")[..., :3]
    blue = np.abs(picture - np.array([0x00, 0x72, 0xB2]) / 255).sum(axis=-1) < 0.02
    assert blue.sum() > 1000  # curves of this colour are there


def the_axis_becomes_logarithmic_and_linear(accuracy: Any) -> None:
    button = accuracy.get_by_role("button", name="log y")
    for expected in ("log", "linear"):
        button.click()
        assert accuracy.locator(".plot").evaluate("plot => plot._fullLayout.yaxis.type") == expected
        assert button.get_attribute("aria-pressed") == str(expected == "log").lower()


def hovering_shows_values(page: Any, edge: Any) -> None:
    box = edge.locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    edge.locator(".hoverlayer text").first.wait_for()
    said = " ".join(edge.locator(".hoverlayer text").all_text_contents())
    assert "step 4" in said
    assert "2/η" in said


def test_a_run_of_a_sweep_is_hidden_everywhere(browser: Any, runs: Path) -> None:
    with opened(browser, runs) as page:
        names = page.locator("#runs tbody tr td:first-child").all_text_contents()
        assert names == ["depth 3, seed 0", "depth 3, seed 1", "depth 4, seed 0", "depth 4, seed 1"]
        loss = panel(page, "Loss")
        page.locator("#runs input").nth(1).uncheck()
        shows(loss, [True, True, False, False, True, True, True, True])
        later = panel(page, "Preactivation")  # drawn only now
        shows(later, [True] * 3 + [False] * 3 + [True] * 8)
        later.locator(".legendtoggle").nth(2).click()
        shows(later, [True] * 3 + [False] * 3 + [False] * 4 + [True] * 4)
        shows(loss, [True, True, False, False, False, False, True, True])
        assert [box.is_checked() for box in page.locator("#runs input").all()] == [True, False, False, True]
        loss.locator(".legendtoggle").nth(3).dblclick()
        shows(loss, [False] * 6 + [True, True])
        page.locator("#runs tbody td span[title]").nth(2).click()
        assert page.locator("#settings summary").text_content() == "Settings and outcome of depth 4, seed 0"
        assert panel(page, "Final test loss").locator(".plot").evaluate("plot => plot.data.length") == 2


def test_where_a_run_diverged_is_hidden_with_it(browser: Any, tmp_path: Path) -> None:
    trained(tmp_path / "0", NO_FIGURE, "seed=0")
    trained(tmp_path / "1", NO_FIGURE, "seed=1", "schedule=constant", "schedule.unit=absolute", "schedule.rate=1e6")
    with opened(browser, tmp_path) as page:
        loss = panel(page, "Loss").locator(".plot")
        visible = "plot => plot.layout.shapes.map(shape => shape.visible !== false)"
        assert loss.evaluate(visible) == [True]
        rows = page.locator("#runs tbody tr")
        diverged = rows.filter(has_text="diverged").locator("input")
        diverged.uncheck()
        page.wait_for_function("() => document.querySelector('.plot.drawn').layout.shapes[0].visible === false")
        rows.filter(has_text="completed").locator("input").uncheck()
        diverged.check()
        page.wait_for_function("() => document.querySelector('.plot.drawn').layout.shapes[0].visible === true")
