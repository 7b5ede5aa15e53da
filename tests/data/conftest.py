from __future__ import annotations

import urllib.request
from urllib.error import URLError

import pytest


@pytest.fixture(autouse=True)
def requests(monkeypatch) -> list[str]:
    """No test reaches a network: every request fails, and is written down."""
    made: list[str] = []

    def refuse(request, *_, **__):
        made.append(request.full_url)
        raise URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return made
