"""Looks at a built documentation site: ``python -m docs.site_check [FOLDER]``.

Every link within it leads to a file and an anchor that are there, and nothing is fetched from
elsewhere when a page is shown: no style, script, picture, font or frame of another host. mkdocs
checks the links that Markdown has; this sees what came out, the theme's and the docstrings' too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("use", "href")}
"""What a browser fetches by itself; so is a ``link`` of one of ``_RELATIONS``."""
_RELATIONS = {"stylesheet", "icon", "preload", "preconnect", "prefetch", "manifest"}
_IN_STYLE = re.compile(r"(?:@import\s+|url\()[\"']?(?:https?:)?//[^)\"'\s]+")


class _Page(HTMLParser):
    """The anchors of a page, what it links to, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        relations = set(values.get("rel", "").split())
        for key in ("href", "src"):
            if key not in values:
                continue
            fetches = (tag, key) in FETCHED or (tag == "link" and relations & _RELATIONS)
            (self.fetched if fetches else self.links).append(values[key])


def _elsewhere(url: str) -> bool:
    return bool(urlsplit(url).netloc)


def _lost(folder: Path, page: Path, url: str, anchors: dict[Path, set[str]]) -> str | None:
    """What is wrong with a link of a page, if anything is."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return None
    if parts.path.startswith("/"):
        return f"{url}: begins at a host's root, and a site on a disk has none"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_file() or not target.is_relative_to(folder):
        return f"{url}: no such file"
    named = unquote(parts.fragment)
    if named and target.suffix == ".html" and named not in anchors.get(target, set()):
        return f"{url}: no such anchor"
    return None


def problems(folder: Path) -> Iterator[str]:
    """A line for each link that leads nowhere and each thing that is fetched from elsewhere."""
    folder = folder.resolve()
    paths = [path for path in sorted(folder.rglob("*.html")) if path.name != "404.html"]
    pages = {path: _Page(path.read_text("utf-8")) for path in paths}
    anchors = {path: page.anchors for path, page in pages.items()}
    for path, page in pages.items():
        name = path.relative_to(folder)
        for url in dict.fromkeys(page.fetched):
            if _elsewhere(url):
                yield f"{name}: {url}: is fetched from elsewhere"
        for url in dict.fromkeys(page.links + page.fetched):
            if lost := _lost(folder, path, url, anchors):
                yield f"{name}: {lost}"
    for path in sorted(folder.rglob("*.css")):
        for found in _IN_STYLE.findall(path.read_text("utf-8")):
            yield f"{path.relative_to(folder)}: {found}: is fetched from elsewhere"


def main() -> int:
    """0, or 1 after a line for each problem; 2 where there is no site."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/site")
    if not (folder / "index.html").is_file():
        print(f"{folder}: no site lies there: make docs", file=sys.stderr)
        return 2
    found = list(problems(folder))
    print("\n".join(found) or f"{folder}: all links lead somewhere, nothing comes from elsewhere")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
