"""The documentation site: every page is in it, every public name, and what is wrong is seen.

That it builds, and where its links lead, is `make docs`' own matter, which CI runs.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import site_check, site_docstrings, site_pages
from tests.test_public_names import NAMES

ROOT = Path(__file__).parent.parent


def nav(part: Any) -> Iterator[str]:
    """The paths below a part of mkdocs.yml's navigation."""
    if isinstance(part, str):
        yield part
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from nav(one)


def test_every_page_is_in_the_navigation_once() -> None:
    """A new page: add it to `nav` of mkdocs.yml."""
    listed = Counter(nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert set(listed.values()) == {1} and sorted(listed) == site_pages.pages()


def test_what_pages_link_to_comes_along() -> None:
    found = set(site_pages.linked("docs/tasks.md"))
    assert "examples/own_task/task.py" in found
    kinds = {Path(one).suffix for page in site_pages.pages() for one in site_pages.linked(page)}
    assert kinds <= {".png", ".py", ".sh", ".toml", ".yml", ".ipynb", ""}, "is it one to publish?"


def named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_public_name_is_on_the_page_of_the_python_interface() -> None:
    paths = re.findall(r"(?m)^::: (\S+)$", (ROOT / "docs" / "api.md").read_text("utf-8"))
    public = [f"{module}.{name}" for module, names in NAMES.items() for name in names]
    assert len(set(paths)) == len(paths) and set(paths) <= set(public)
    shown = [named(path) for path in paths]
    assert [path for path in public if not any(named(path) is one for one in shown)] == []


def test_a_docstring_becomes_markdown() -> None:
    text = "Adds.\n\nx, y : what\n    is added\nz[T] : more\n\nRaises.\n\n>>> 1 + 1\n2\n\nEnd."
    assert site_docstrings.markdown(text) == (
        "Adds.\n\n\n- `x, y`: what\n    is added\n- `z[T]`: more\n\n\nRaises.\n\n"
        "```pycon\n>>> 1 + 1\n2\n```\n\nEnd."
    )
    assert site_docstrings.markdown("Parameters\n----------\nx : y").startswith("**Parameters**\n")
    assert site_docstrings.markdown("Plain: a text") == "Plain: a text"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('<a href="b.html">', None),
        ('<a href="b.html#there">', None),
        ('<a href="sub/">', None),
        ('<a href="#here"><p id="here">', None),
        ('<a href="https://example.org/x">', None),
        ('<img src="data:image/png;base64,AA==">', None),
        ('<a href="lost.html">', "lost.html: no such file"),
        ('<a href="b.html#lost">', "b.html#lost: no such anchor"),
        ('<a href="#lost">', "#lost: no such anchor"),
        ('<a href="../outside.html">', "../outside.html: no such file"),
        ('<a href="/b.html">', "/b.html: begins at a host's root, and a site on a disk has none"),
        ('<img src="lost.png">', "lost.png: no such file"),
        ('<img src="//example.org/x.png">', "//example.org/x.png: is fetched from elsewhere"),
        ('<script src="https://e.org/x"></script>', "https://e.org/x: is fetched from elsewhere"),
        (
            '<link rel="preconnect" href="https://e.org">',
            "https://e.org: is fetched from elsewhere",
        ),
        ('<link rel="canonical" href="https://e.org">', None),
    ],
)
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, body: str, says: str | None) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (tmp_path / "outside.html").touch()
    (site / "sub" / "index.html").touch()
    (site / "b.html").write_text('<h1 id="there">')
    (site / "index.html").write_text(body)
    assert list(site_check.problems(site)) == ([f"index.html: {says}"] if says else [])


def test_a_style_that_fetches_a_font_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("b{background:url(own.png)}@font-face{src:url(//e.org/x)}")
    assert list(site_check.problems(tmp_path)) == [
        "a.css: url(//e.org/x: is fetched from elsewhere"
    ]
