"""What was done, for people: lines for a console and a page that stays at the hospital."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from wardround.client.deidentify.anonymity import SMALL
from wardround.client.deidentify.rules import WORDS
from wardround.client.deidentify.run import Outcome
from wardround.common.offline_page import document, table

LEFT = (
    "Rules find forms, not meanings: names without a title, places, professions and rare diseases "
    "stay in texts, and small groups stay in tables. Whether the copies may be passed on is for a "
    "person to decide; this promises nothing more than what stands here."
)


def lines_of(outcome: Outcome) -> Iterator[str]:
    """One file, for a console."""
    yield f"{outcome.source} -> {outcome.target}: {outcome.rows} rows"
    for one in outcome.decisions:
        yield f"  {one.column}: {one.role}, {WORDS[one.action]}"
    yield from (f"  {line}" for line in _found(outcome))


def _found(outcome: Outcome) -> Iterator[str]:
    texts, found = outcome.texts, outcome.anonymity
    if texts.texts:
        tags = ", ".join(f"{tag} {count}" for tag, count in sorted(texts.tags.items())) or "nothing"
        left = f"two capitalised words, maybe a name, are left in {texts.suspects} texts"
        yield f"free text: found {tags}; {left}"
    if found is not None and found.columns:
        share = found.below / max(1, found.rows)
        yield (
            f"by {', '.join(found.columns)} together: {found.below} of {found.rows} rows "
            f"({share:.1%}) stand in groups under {SMALL}, {found.unique} alone; k = {found.k}"
        )
    elif found is not None:
        yield "no column that others may know was recognised: name them (--quasi) to count k"


def page_of(outcomes: Sequence[Outcome], profile: str) -> str:
    """The page as HTML text."""
    parts = [f"<h1>De-identified by the profile {escape(profile)}</h1>", f"<p>{escape(LEFT)}</p>"]
    for one in outcomes:
        parts.append(f"<h2>{escape(one.source)} as {escape(one.target)}</h2>")
        rows = [(each.column, each.role, WORDS[each.action]) for each in one.decisions]
        parts.append(table(("column", "what it is", "what became of it"), rows, 3) if rows else "")
        parts += [f"<p>{escape(line)}</p>" for line in _found(one)]
    return document("De-identification", parts)
