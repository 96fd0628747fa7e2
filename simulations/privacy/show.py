"""``wardround privacy show``: what a ledger says is spent, and what is left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from wardround.client.privacy.book import BOOK, Book
from wardround.client.privacy.ledger import UNITS, Entry, Ledger, Limit, hospital_of
from wardround.client.privacy.ledger_files import LEDGER
from wardround.client.site.ledger import ledger_of
from wardround.client.site.policy import load_site
from wardround.common.config.load import load_config
from wardround.common.errors import ConfigError
from wardround.common.privacy.accounting import steps_left
from wardround.common.run.directory import RunDirectory
from wardround.common.trust.credentials import SITE

_DELTA = 1e-5


def read_ledgers(
    place: Path, limit: float | None, delta: float | None, entries: bool
) -> Iterator[RenderableType]:
    """What to print about a ledger, a kit, or a run: of a simulated one its ledgers, of a deployed
    one what its hospitals have signed, for their ledgers are theirs.

    Limit and delta are those of the run's configuration where they are not given. Raises
    PrivacyRefused for a ledger that can't be trusted, ConfigError for a place without one.
    """
    ledger_of_kit = place / "state" / LEDGER
    if (place / SITE).is_file():
        ledger_of_kit = ledger_of(load_site(place / SITE), place)
    if ledger_of_kit.exists():
        paths = [ledger_of_kit]
    elif place.is_dir():
        run = RunDirectory.open(place)
        table = load_config(run.config_path).privacy
        limit = limit or (table.limit if math.isfinite(table.limit) else None)
        delta = delta or table.delta
        paths = sorted(run.ledgers.glob("*.sqlite"))
        if not table.enabled:
            raise ConfigError(f"{place}: this run has no privacy ledgers; privacy.unit was 'none'")
        if not paths:
            yield from _signed(run)
    elif place.exists():
        paths = [place]
    else:
        raise ConfigError(f"{place}: no such ledger or run directory")
    for path in paths:
        if path.name == BOOK:
            yield _many(Book.open(path), delta or _DELTA)
            continue
        with Ledger.open(path, hospital_of(path)) as ledger:
            yield from _one_ledger(ledger, path, limit, delta or _DELTA, entries)


def _signed(run: RunDirectory) -> Iterator[RenderableType]:
    """What each hospital of a deployed run has last signed."""
    claims: dict[str, dict[str, Any]] = {}
    rounds: dict[str, int] = {}
    for row in run.rounds():
        for name, claim in (row.get("privacy") or {}).items():
            claims[name], rounds[name] = claim, row["round"]
    if not claims:
        yield Text("no hospital has signed a budget yet: no private round was made")
        return
    table = Table(title="Spent, as each hospital has signed it", title_justify="left")
    for name in ("hospital", "round", "epsilon", "delta", "limit"):
        table.add_column(name, justify="left" if name == "hospital" else "right")
    for name, claim in sorted(claims.items()):
        figures = (claim.get(key) for key in ("epsilon", "delta", "limit"))
        shown = ("-" if one is None else f"{one:.4g}" for one in figures)
        table.add_row(escape(name), str(rounds[name]), *shown)
    yield table
    yield Text("the ledgers are at the hospitals: wardround privacy show KIT")


def _many(book: Book, delta: float) -> Table:
    """What a simulation's hospitals have spent, those with equal sums together."""
    alike: dict[tuple[str, int, float], list[str]] = {}
    for name in book.hospitals():
        page = book.page(name)
        found = page.entries()
        finest = min((one.unit for one in found), key=UNITS.index)
        key = finest, len(found), page.spent(delta, finest)
        alike.setdefault(key, []).append(name)
    table = Table(title=f"{len(book.hospitals())} simulated hospitals, ledger {book.path}")
    for name in ("hospitals", "protected unit", "releases", f"epsilon (delta {delta:g})"):
        right = name.startswith(("rel", "eps"))
        table.add_column(name, justify="right" if right else "left")
    for (unit, count, spent), names in sorted(alike.items()):
        who = escape(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        table.add_row(who, unit, str(count), f"{spent:.4g}")
    table.caption = "simulated: the noise came from a seed and protected nobody"
    return table


def _one_ledger(
    ledger: Ledger, path: Path, limit: float | None, delta: float, entries: bool
) -> Iterator[RenderableType]:
    found = ledger.entries()
    yield Text(f"{hospital_of(path)}: {len(found)} releases, ledger {path}")
    if not found:
        return
    table = Table()
    for name in ("protected unit", "federation", "run", "releases", f"epsilon (delta {delta:g})"):
        right = name.startswith(("rel", "eps"))
        table.add_column(name, justify="right" if right else "left", no_wrap=not right)
    unit = max((one.unit for one in found), key=UNITS.index)
    finest = min((one.unit for one in found), key=UNITS.index)
    for federation in dict.fromkeys(one.federation for one in found):
        runs = dict.fromkeys(one.run for one in found if one.federation == federation and one.run)
        for run in runs:
            count = sum(one.run == run for one in found)
            spent = ledger.spent(delta, finest, federation, run)
            table.add_row(finest, escape(federation), escape(run), str(count), f"{spent:.4g}")
    total = ledger.spent(delta, finest)
    table.add_row(finest, "all", "all", str(len(found)), f"{total:.4g}", style="bold")
    yield table
    if unit != finest:
        yield Text(f"runs that protect a {unit} are counted for each {finest}, with twice the norm")
    if any(one.simulated for one in found):
        yield Text("simulated: the noise came from a seed and protected nobody")
    if limit is not None:
        yield _left(ledger, found, Limit(limit, delta, finest))
    if entries:
        yield _entries(found)


def _left(ledger: Ledger, found: list[Entry], limit: Limit) -> Text:
    last = next((one for one in reversed(found) if one.run), None)
    spent = ledger.spent(limit.delta, limit.unit)
    text = f"limit epsilon {limit.epsilon:g}: {max(0.0, limit.epsilon - spent):.4g} left"
    if last is None or len({one.unit for one in found}) > 1:
        return Text(text)
    before = [release for one in found for release in one.releases]
    (release, *_) = last.releases
    steps = steps_left(release, limit.epsilon, limit.delta, before)
    return Text(f"{text}, enough for {steps // release.steps} more rounds like the last")


def _entries(found: list[Entry]) -> Table:
    table = Table(title="Entries", title_justify="left")
    for name in ("time", "run", "round", "mechanism", "unit", "norm", "noise", "rate", "steps"):
        table.add_column(name)
    for one in found:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one.time))
        for release in one.releases:
            table.add_row(
                stamp,
                escape(one.run),
                str(one.round),
                escape(one.mechanism),
                one.unit,
                f"{one.clipping_norm:.3g}",
                f"{release.noise_multiplier:.4g}",
                f"{release.sampling_rate:.4g}",
                str(release.steps),
            )
    return table
