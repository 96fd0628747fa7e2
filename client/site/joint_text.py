"""A joint procedure for people who approve it: who learns what of whom, and what was before.

What is opened follows from the settings; what a hospital's own kit has (links, counts) is read
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from wardround.client.links.helped import Helped
from wardround.client.links.kept import FOLDER, Kept
from wardround.client.links.store import may_use
from wardround.common.config.load import Config
from wardround.common.joint.party import COORDINATOR
from wardround.common.settings import (
    LINKAGE,
    SPLIT,
    VERTICAL,
    LinkageOptions,
    SplitOptions,
    VerticalOptions,
)
from wardround.common.split.cost import most_appearances, spent
from wardround.common.text import one_line
from wardround.common.vertical.opened import opened

PROCEDURES = {
    LINKAGE: (
        "which persons all hospitals of the list have rows of. Identifiers leave as points of a "
        "curve under secrets of all of them; what is found stays at each hospital as a link, for "
        "the studies that the settings name"
    ),
    VERTICAL: (
        "a model of columns that lie at several hospitals, of the persons of a link. Values of "
        "rows leave in shares that are random each by itself; sums over all persons are opened"
    ),
    SPLIT: (
        "a network whose parts lie at several hospitals (research only): for every person of a "
        "link numbers of one part, and their gradients, go to another hospital"
    ),
}
"""Of each joint procedure what it is, for the plan."""
_BARE = (
    "There is no noise on it: the others can read every outcome from the gradients, and its holder "
    "most of a table's inputs from the numbers"
)
_NOISED = "Outcomes and inputs may be guessed from it, as far as its noise lets one"


def learned(config: Config) -> Iterator[tuple[str, str]]:
    """Who learns what, a line each; nothing of a procedure that isn't joint."""
    options, parties = config.procedure.settings, sorted(_parties(config))
    names = ", ".join(one_line(party, 64) for party in parties)
    if isinstance(options, LinkageOptions):
        yield from _of_linkage(options, names)
    elif isinstance(options, VerticalOptions):
        dealer = options.dealer
        columned = [one_line(party, 64) for party in parties if party != dealer]
        yield from opened(options, columned, one_line(_holder(config), 64))
        yield (
            "a party that cheats",
            "could make up a column that singles out a person, and read that person's values in "
            "the others' columns",
        )
        yield (
            "the dealer learns",
            f"{_who(dealer)}: sizes, and when it ends. Together with one of the parties it could "
            "read values of rows",
        )
    elif isinstance(options, SplitOptions):
        yield (
            "the parties learn",
            f"{names}: of every linked person what crosses between the parts of the network. "
            + (_NOISED if options.noise_multiplier else _BARE),
        )


def _of_linkage(options: LinkageOptions, names: str) -> Iterator[tuple[str, str]]:
    yield (
        "the parties learn",
        f"{names}: which of its own persons all of them have, too, and how many, if at least "
        f"{options.smallest}. That a person is at the others may be a diagnosis by itself",
    )
    yield (
        "who compares learns",
        f"{_who(options.compare)}: how many persons any of them have in common, of too few, too; "
        "not who they are",
    )
    yield (
        "all of them learn",
        f"how many rows each of them has, rounded up to a multiple of {options.padded}",
    )
    named = ", ".join(one_line(one, 200) for one in options.used_by)
    yield "link is used by", f"studies named {named}" if named else "studies of this one's name"


def of_this_kit(config: Config, state: Path, here: str, study: str) -> Iterator[str]:
    """Sentences on what this hospital has: how often it has helped, or which link is used.

    state : the kit's
    here : the hospital's name
    study : the study's

    Raises ProvisionError for what can't be read.
    """
    options = config.procedure.settings
    others = sorted(set(_parties(config)) - {here})
    if isinstance(options, LinkageOptions):
        helped = Helped(state / FOLDER)
        counted = {party: helped.total(party) for party in others}
        said = "; ".join(
            f"{one_line(party, 64)} in {one.linkages} linkages, {one.ids} identifiers"
            for party, one in counted.items()
        )
        yield (
            f"So far this hospital has helped {said}. Of each identifier that another party "
            "brings, be it a guess, it can learn whether everybody has that person."
        )
    elif isinstance(link := getattr(options, "link", None), str):
        yield _link(state, link, study)
        if isinstance(options, SplitOptions) and options.noise_multiplier:
            yield from _cost(state, options)


def _cost(state: Path, options: SplitOptions) -> Iterator[str]:
    """Epsilon of a split network over a link that is here."""
    if (record := Kept(state / FOLDER).find(options.link)) is not None:
        yield (
            f"Each of these persons is in at most {most_appearances(options, record.persons)} "
            f"batches: epsilon of this hospital's columns of one person is at most "
            f"{spent(options, record.persons):.3g} at delta {options.delta:g}. It stands in no "
            "ledger."
        )


def _link(state: Path, name: str, study: str) -> str:
    called, record = one_line(name, 200), Kept(state / FOLDER).find(name)
    if record is None:
        return f"This hospital has no link '{called}': the study will be refused until it has one."
    if not may_use(record, study):
        return f"The link '{called}' is not for a study of this name: the study will be refused."
    return (
        f"The link '{called}' here: {record.persons} persons with "
        f"{', '.join(one_line(one, 64) for one in record.parties)}, made {record.made}, digest "
        f"{record.digest[:16]}..."
    )


def _parties(config: Config) -> list[str]:
    parties = config.task.options.get("parties")
    return [str(name) for name in parties] if isinstance(parties, Mapping) else []


def _holder(config: Config) -> str:
    """Whose the outcome is."""
    parties = config.task.options.get("parties", {})
    return next(str(name) for name, own in parties.items() if {"outcome", "time"} & set(own))


def _who(name: str) -> str:
    return "the server" if name == COORDINATOR else one_line(name, 64)
