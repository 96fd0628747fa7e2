"""Which files the documentation site is made of: a hook of mkdocs (``mkdocs.yml``).

The site has the repository's own layout: ``README.md`` is its first page, ``docs/``, ``examples/``
and the other pages at the top lie where they lie here. So one relative link works on a code host
and in the site, and nothing is copied. A file that a page links to and that is no page (a picture,
an example's code) comes along as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).parent.parent
MADE = {"data", "hospitals", "provision", "runs"}
"""Folders that who tries an example leaves there."""
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")


def pages() -> list[str]:
    """The pages' paths, from the repository's root, in order."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
    paths = (path.relative_to(ROOT) for path in found)
    return sorted(str(path) for path in paths if not MADE & set(path.parts))


def linked(page: str) -> Iterator[str]:
    """The paths of files that are no pages, and that a page links to or shows."""
    folder = (ROOT / page).parent
    for link in _LINK.findall((ROOT / page).read_text("utf-8")):
        path = (folder / link).resolve()
        if path.is_file() and path.suffix != ".md" and path.is_relative_to(ROOT):
            yield str(path.relative_to(ROOT))


def on_config(config: Any) -> Any:
    """Anchors as a code host makes them of headings: one link leads to the place on both."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: Any) -> Files:
    """The theme's own files, and ours by their paths in the repository."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = [*pages(), *sorted({one for page in pages() for one in linked(page)})]
    paths += [f"docs/assets/{path.name}" for path in sorted((ROOT / "docs/assets").iterdir())]
    ours = [
        File(path, str(ROOT), config.site_dir, config.use_directory_urls)
        for path in dict.fromkeys(paths)
    ]
    return Files([*theme, *ours])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Diagrams as their text: what would draw them is fetched from a network."""
    return markdown.replace("```mermaid\n", "```text\n")
