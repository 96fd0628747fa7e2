"""What docs/serving.md shows is answered."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.client.serving.asgi import Client
from wardround.client.serving import chat

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"
SHOWN = re.findall(r"^(curl .*)$", PAGE.read_text("utf-8"), re.M)
LINES = [line for line in SHOWN if chat.PATH not in line]
"""Those of a language model are answered in tests/common/export/test_language.py."""


@pytest.mark.parametrize("line", LINES, ids=lambda line: urlsplit(shlex.split(line)[2]).path)
def test_a_line_that_the_page_shows_is_answered(client: Client, line: str) -> None:
    words = shlex.split(line)
    url = urlsplit(words[2])
    assert words[:2] == ["curl", "-s"] and url.netloc == "127.0.0.1:8090"
    given = dict(zip(words[3::2], words[4::2], strict=True))
    headers = dict([given["-H"].split(": ")]) if "-H" in given else {}
    method = "POST" if "-d" in given else "GET"
    answer = client.request(method, url.path, content=given.get("-d", ""), headers=headers)
    assert answer.status_code == 200 and answer.content


def test_the_page_shows_every_path() -> None:
    shown = {urlsplit(shlex.split(line)[2]).path for line in SHOWN}
    assert shown == {
        *("/predict", "/fhir/RiskAssessment", "/cds-services", "/model", "/health", "/metrics"),
        chat.PATH,
    }
