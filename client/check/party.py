"""A party's columns against a joint study: its identifiers, and what it has of the persons."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from wardround.client.check.columns import Columns
from wardround.client.check.finding import Finding, Shown
from wardround.client.check.look import Looked
from wardround.client.site.terms import Terms
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.tasks.linked import LinkedOptions, PartyColumns
from wardround.common.tasks.options import TabularOptions


def party_findings(
    terms: Terms, looked: Looked, table: pa.Table, options: LinkedOptions
) -> Iterator[Finding]:
    """Everything that is to be said of this party's single columns. How many rows have no
    identifier, or another's, is told when they are loaded."""
    if terms.kit.name not in options.parties:
        names = ", ".join(options.names)
        text = f"'{terms.kit.name}' is none of the study's parties: {names}"
        yield Finding("error", "[task.parties]", text, "ask whoever wrote it, or use another kit")
        return
    columns = _columns(terms, looked, table, options)
    own = options.parties[terms.kit.name].named()
    yield from columns.lacking([*options.identifiers, *(column for _, column in own)])
    yield from columns.findings()


def party_columns(
    terms: Terms, looked: Looked, table: pa.Table, options: LinkedOptions
) -> list[Shown]:
    """Each column for a page; of identifiers how well they are filled, and no value."""
    shown = []
    for one in _columns(terms, looked, table, options).shown():
        rule = options.identifiers.get(one.name)
        role, values = (f"identifier ({rule})", "") if rule else (one.role, one.values)
        shown.append(Shown(one.name, role, one.kind, one.filled, values))
    return shown


def _columns(terms: Terms, looked: Looked, table: pa.Table, options: LinkedOptions) -> Columns:
    own = options.parties.get(terms.kit.name) or PartyColumns()
    kept = table.drop_columns([PATIENT]) if PATIENT in table.column_names else table
    return Columns(terms, looked, kept, _as_table(own, options))


def _as_table(own: PartyColumns, options: LinkedOptions) -> TabularOptions:
    """The same columns as the settings of a table have them: what is to be predicted is read as
    it is loaded, so that only whether it is there is held against the column."""
    return TabularOptions.model_validate(
        {
            "kind": "none",
            "missing_values": options.missing_values,
            "columns": {
                "numeric": [*own.numeric, *([own.time] if own.time is not None else [])],
                "binary": [one for one in (own.outcome, own.event) if one is not None],
                "categorical": list(own.categorical),
                "categories": own.categorical,
                "ignore": list(options.identifiers),
            },
        }
    )
