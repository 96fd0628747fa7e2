"""What ``site.toml`` says of joint procedures: which columns persons are linked by, which may be
computed with beside others' columns, how few persons a link may have, how often it helps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wardround.client.links.helped import Helped
from wardround.client.links.kept import FOLDER
from wardround.client.site.hold_back import is_allowed
from wardround.client.site.policy import SitePolicy
from wardround.common.config.load import Config
from wardround.common.settings import LinkageOptions
from wardround.common.text import one_line

_NO_COLUMNS = ("positive", "size", "channels")
"""Keys of a party's table that are no column's name."""


def check_joint(site: SitePolicy, config: Config, here: str) -> None:
    """Raise PolicyRefused, naming key and both values, unless the rules allow what a joint
    procedure asks of this hospital. Of other procedures nothing is asked here.

    here : the hospital's name
    """
    if not config.procedure.joint:
        return
    for key, what, names in (
        ("linkage_columns", "to link persons by", identifiers_of(config)),
        ("vertical_columns", "to compute with", columns_of(config, here)),
    ):
        for name in names:
            for rule in (key, "columns"):
                _check_column(site, rule, what, name)
    options = config.procedure.settings
    if isinstance(options, LinkageOptions) and options.smallest < site.smallest_link:
        raise site.refused(
            "smallest_link",
            f"this hospital links {site.smallest_link} persons or more, the run would link "
            f"{options.smallest} (procedure.smallest)",
        )


def check_helped(site: SitePolicy, config: Config, state: Path, run: str, others: set[str]) -> None:
    """Raise PolicyRefused where this hospital has helped one of the other parties in as many
    linkages as it allows; what a linkage asks is counted as it is asked (``client/links``).

    state : the kit's
    run : whose own part isn't counted: its plan may be shown again
    """
    if not isinstance(config.procedure.settings, LinkageOptions):
        return
    helped = Helped(state / FOLDER)
    for party in sorted(others):
        before = helped.total(party, run=run)
        if before.linkages >= site.max_linkages:
            raise site.refused(
                "max_linkages",
                f"this hospital allows {site.max_linkages} linkages with '{one_line(party, 100)}', "
                f"and there were {before.linkages}",
                f"this hospital allows no more linkages with '{one_line(party, 100)}'",
            )
        if before.ids >= site.max_linked_ids:
            raise site.refused(
                "max_linked_ids",
                f"this hospital works on {site.max_linked_ids} identifiers of "
                f"'{one_line(party, 100)}', and there were {before.ids}",
                f"this hospital works on no more identifiers of '{one_line(party, 100)}'",
            )


def identifiers_of(config: Config) -> dict[str, str]:
    """The identifiers that persons are linked by, each with its rule; empty where none are."""
    found = config.task.options.get("identifiers")
    return {str(k): str(kind) for k, kind in found.items()} if isinstance(found, Mapping) else {}


def columns_of(config: Config, party: str) -> list[str]:
    """Columns of a party that are computed with, its outcome too."""
    parties = config.task.options.get("parties")
    table = parties.get(party) if isinstance(parties, Mapping) else None
    return list(dict.fromkeys(_named(table))) if isinstance(table, Mapping) else []


def _named(table: Mapping[str, Any]) -> Iterator[str]:
    """Values of keys, but keys of tables by column."""
    for key, value in table.items():
        if key in _NO_COLUMNS:
            continue
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping) and isinstance(value.get("column"), str):
            yield str(value["column"])
        elif isinstance(value, Mapping | list | tuple):
            yield from (str(one) for one in value)


def _check_column(site: SitePolicy, rule: str, what: str, name: str) -> None:
    patterns: list[str] = getattr(site, rule)
    if not is_allowed(patterns, name):
        allowed = ", ".join(patterns[:10]) or "none"
        raise site.refused(
            rule,
            f"this hospital allows {allowed}, the study asks for column '{one_line(name, 100)}' "
            f"{what}",
            f"the study asks for column '{one_line(name, 100)}' {what}, which this hospital's "
            "rules don't allow",
        )
