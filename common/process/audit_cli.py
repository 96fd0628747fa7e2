"""``wardround audit``: is a log intact, what left, were all told the same, a log after damage."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from wardround.common.command_line import example, new_commands, new_console, new_group
from wardround.common.errors import AuditError, ConfigError

if TYPE_CHECKING:
    from wardround.common.audit.verify import Report

# The modules that read logs are imported by the commands: --help answers without loading them.

_WIDTH = 140  # of the tables, where there is no terminal to ask
_OWN_FIELDS = ("seq", "time", "event", "prev", "hash")

commands = new_commands()
audit = new_group(
    "audit", "The audit log: verify it, compare several, see what left, begin it anew after damage."
)
commands.add_typer(audit)

FileArgument = Annotated[
    Path, typer.Argument(help="An audit.jsonl.", show_default=False, readable=False)
]
PublicsOption = Annotated[
    Path | None,
    typer.Option(metavar="federation.signed", help="Whose keys must have signed the heads."),
]
AuthorityOption = Annotated[
    Path | None, typer.Option(help="The authority's certificate. Default: beside --publics.")
]


@audit.command(
    epilog=example(
        "wardround audit verify kits/north/state/audit.jsonl --against server/audit.jsonl"
    )
)
def verify(
    file: FileArgument,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The other side's audit.jsonl.")
    ] = None,
    publics: PublicsOption = None,
    ca: AuthorityOption = None,
) -> None:
    """Whether a log is what was written: names each edited, removed, reordered, inserted,
    duplicated or cut off line, and exits with 13 if there is one. Of an audit bundle: whether every
    file in it is what the server signed."""
    if zipfile.is_zipfile(file):
        return _verify_bundle(file, against, publics, ca)
    from wardround.common.audit.against import compare_logs
    from wardround.common.audit.verify import check_log, proof_words

    keys = _keys(publics, ca)
    own = check_log(file, publics=keys)
    problems, notes = list(own.problems), list(own.notes)
    if against is not None:
        other = check_log(against, publics=keys, alone=True)
        more, remarks = compare_logs(own, other, keys)
        problems += other.problems + more
        notes += other.notes + remarks
    if not keys:
        notes.append(
            f"keys are as the log names them{_signed_by(own)}; with --publics they are checked too"
        )
    console = new_console(_WIDTH)
    for note in notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    for problem in problems:
        console.print(Text(str(problem), style="bold red"), soft_wrap=True)
    if problems:
        raise typer.Exit(AuditError.exit_code)
    counted = f"{len(own.log.lines)} lines, {own.heads} countersigned heads"
    if against is not None:
        text = f"{counted}: intact; agrees with {against} of '{other.log.party}'"
    else:
        text = f"{counted}: no damage found; {proof_words(own)} (--against)"
    console.print(Text(text), soft_wrap=True)


@audit.command(epilog=example("wardround audit compare north.jsonl south.jsonl server/audit.jsonl"))
def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Hospitals' audit.jsonl, two or more, or copies; the server's too.",
            show_default=False,
            readable=False,
        ),
    ],
    publics: PublicsOption = None,
    ca: AuthorityOption = None,
) -> None:
    """Whether the server told several hospitals the same: cohorts, keys, models, settings, whose
    sums were opened. Names the first difference, and exits with 1 if there is one; with 13 for a
    log that isn't what was written."""
    from wardround.common.audit.against import compare_logs
    from wardround.common.audit.compare import compare_told
    from wardround.common.audit.verify import check_log
    from wardround.common.names import SERVER

    keys = _keys(publics, ca)
    reports = [check_log(file, publics=keys, alone=True) for file in files]
    hospitals = [report for report in reports if report.log.party != SERVER]
    _check_parties(reports, len(hospitals))
    problems = [problem for report in reports for problem in report.problems]
    notes = [note for report in reports for note in report.notes]
    for server in (report for report in reports if report.log.party == SERVER):
        for hospital in hospitals:
            more, remarks = compare_logs(hospital, server, keys)
            problems += more
            notes += remarks
    told = compare_told(hospitals)
    console = new_console(_WIDTH)
    for note in [*notes, *told.notes]:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    for problem in problems:
        console.print(Text(str(problem), style="bold red"), soft_wrap=True)
    if told.differences:
        more_of = f" (and {len(told.differences) - 1} more)" if len(told.differences) > 1 else ""
        console.print(Text(told.differences[0] + more_of, style="bold red"), soft_wrap=True)
    if problems:
        raise typer.Exit(AuditError.exit_code)
    if told.differences:
        raise typer.Exit(1)
    if not told.steps:
        console.print("nothing to compare: no two of these hospitals were told of the same step")
        raise typer.Exit(1)
    who = ", ".join(f"'{report.log.party}'" for report in hospitals)
    console.print(Text(f"{who}: the same in {told.steps} things that two or more were told of"))


def _verify_bundle(file: Path, against: Path | None, publics: Path | None, ca: Path | None) -> None:
    from wardround.common.bundle.bundle import verify_bundle

    if against is not None or publics is not None:
        raise ConfigError(f"{file}: is an audit bundle, which has its own keys; give --ca only")
    found = verify_bundle(file, _bytes_of(ca) if ca else None)
    console = new_console(_WIDTH)
    for note in found.notes:
        console.print(Text(note), soft_wrap=True)
    for problem in found.problems:
        console.print(Text(problem, style="bold red"), soft_wrap=True)
    if found.problems:
        raise typer.Exit(AuditError.exit_code)
    console.print("the bundle holds")


@audit.command(epilog=example("wardround audit bundle runs/sepsis-20260131 --server server"))
def bundle(
    run: Annotated[Path, typer.Argument(help="A run directory, of a run that is complete.")],
    server: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The server's folder, with its key and log.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to. Default: RUN/audit.zip.")
    ] = None,
) -> None:
    """One signed archive for who audits a run: plan, approvals, what ledgers claimed, heads of the
    audit logs, model, card, report. `wardround audit verify` looks into it."""
    from importlib import import_module

    from wardround.common.run.directory import RunDirectory

    make = import_module("wardround.server.results.bundle").make_bundle
    print(make(RunDirectory.open(run), server, out or run / "audit.zip"))


def _check_parties(reports: list[Report], hospitals: int) -> None:
    """Raises ConfigError unless these are logs of at least two hospitals, each once."""
    parties = [report.log.party for report in reports]
    for report in reports:
        if parties.count(report.log.party) > 1:
            whose = report.log.party or "no party that it names"
            raise ConfigError(f"{report.log.path}: of '{whose}', like another; give each log once")
    if hospitals < 2:
        raise ConfigError("give the audit logs of at least two hospitals")


def _signed_by(own: Report) -> str:
    """Who countersigned with which keys: of a log made anew with keys of one's own, others."""
    if not own.signers:
        return ""
    return " (" + ", ".join(f"'{name}': {key[:16]}" for name, key in sorted(own.signers)) + ")"


@audit.command(
    epilog=example("wardround audit show kits/north/state/audit.jsonl --since 2026-01-31")
)
def show(
    file: FileArgument,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="From this day or time on (UTC), ISO form.")
    ] = None,
    event: Annotated[
        str, typer.Option(metavar="KIND", help="Events of this kind, or 'all'.")
    ] = "sent",
    as_json: Annotated[bool, typer.Option("--json", help="The log's lines as JSON.")] = False,
) -> None:
    """What left this hospital, when, for whom; or what else happened."""
    from wardround.common.audit.verify import check_log, history

    start = _start(since)
    report = check_log(file)
    files = [one.path for one in history(report.log)]
    rows = [row for row in _rows(files) if event in ("all", row["event"])]
    rows = [row for row in rows if start is None or _time(row) >= start]
    if report.problems:
        text = "wardround: this log is not intact; see: wardround audit verify"
        print(f"{text} {file}", file=sys.stderr)
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    console = new_console(_WIDTH)
    if not rows:
        console.print(Text(f"no event '{event}'" + (f" since {since}" if since else "")))
    elif event in ("sent", "received"):
        whose = f"'{report.log.party}'"
        title = f"What left {whose}" if event == "sent" else f"What reached {whose}"
        other = "server" if report.log.party != "server" else None
        console.print(_messages(rows, title, "to" if event == "sent" else "from", other))
        console.print(_totals(rows))
    else:
        console.print(_events(rows))


@audit.command(epilog=example("wardround audit restart kits/north/state/audit.jsonl"))
def restart(
    file: FileArgument,
    party: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose log it is, if it doesn't tell.")
    ] = None,
    after: Annotated[
        int, typer.Option(min=0, help="Go on after this number, which a peer remembers.")
    ] = 0,
) -> None:
    """Keep a damaged log as evidence and begin a new one that tells of it."""
    from wardround.common.audit.restart import restart_log

    kept = restart_log(file, party, after)
    where = f"; the damaged one is kept as {kept.name}" if kept else ""
    print(f"{file}: a new audit log begins{where}")


def _keys(publics: Path | None, ca: Path | None) -> Mapping[str, bytes]:
    """The parties' public keys, of a signed description."""
    if publics is None:
        if ca is not None:
            raise ConfigError("--ca is of use with --publics federation.signed only")
        return {}
    from wardround.common.trust.description import Description

    authority = _bytes_of(ca or publics.with_name("ca.pem"))
    description = Description.read(_bytes_of(publics), authority)
    return {"server": description.server, **description.hospitals}


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from None


def _start(since: str | None) -> datetime | None:
    if since is None:
        return None
    try:
        when = datetime.fromisoformat(since)
    except ValueError:
        raise ConfigError(f"--since {since}: write a date such as 2026-01-31") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _time(row: Mapping[str, Any]) -> datetime:
    """A line's own time; one that can't be read counts as late, so that it is shown."""
    try:
        when = datetime.fromisoformat(row["time"])
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    """The sound lines of the files, in their order."""
    from wardround.common.audit.lines import decode_line, raw_lines

    for file in files:
        for raw in raw_lines(file):
            if (line := decode_line(raw)) and line.sound:
                yield dict(line.values)


# --- tables ------------------------------------------------------------------------------------
def _messages(rows: list[dict[str, Any]], title: str, whom: str, other: str | None) -> Table:
    table = Table(title=f"{title} (times in UTC)", title_justify="left")
    for name in ("time", "round", "kind", "protection", "bytes", "digest", "epsilon", whom):
        table.add_column(name, justify="right" if name in ("round", "bytes", "epsilon") else "left")
    for row in rows:
        table.add_row(
            _when(row),
            _cell(row.get("round")),
            _cell(row.get("kind")),
            _cell(row.get("protection")),
            _bytes(row.get("bytes")),
            _cell(str(row.get("digest") or "")[:12]),
            _cell(row.get("epsilon")),
            _cell(row.get("hospital") or other),
        )
    return table


def _totals(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="In all", title_justify="left")
    for name in ("kind", "messages", "bytes", "last epsilon"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    kinds = list(dict.fromkeys(str(row.get("kind")) for row in rows))
    for kind in kinds:
        table.add_row(*_total(kind, [row for row in rows if str(row.get("kind")) == kind]))
    if len(kinds) > 1:
        table.add_row(*_total("all", rows), style="bold")
    return table


def _total(kind: str, rows: list[dict[str, Any]]) -> tuple[Text, Text, Text, Text]:
    sizes = [row.get("bytes") for row in rows]
    size = sum(one for one in sizes if type(one) is int)
    epsilons = [row["epsilon"] for row in rows if row.get("epsilon") is not None]
    last = epsilons[-1] if epsilons else None
    return _cell(kind), _cell(len(rows)), _bytes(size), _cell(last)


def _events(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Events (times in UTC)", title_justify="left")
    for name in ("number", "time", "event", "details"):
        table.add_column(name, justify="right" if name == "number" else "left")
    for row in rows:
        details = {key: value for key, value in row.items() if key not in _OWN_FIELDS}
        words = ", ".join(f"{key} {_short(value)}" for key, value in details.items())
        table.add_row(_cell(row["seq"]), _when(row), _cell(row["event"]), _cell(words))
    return table


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _when(row: Mapping[str, Any]) -> Text:
    return _cell(str(row["time"])[:19].replace("T", " "))


def _bytes(value: Any) -> Text:
    return _cell(decimal(value) if type(value) is int else value)


def _cell(value: Any) -> Text:
    """A value as harmless text: no markup, no control character."""
    from wardround.common.text import one_line

    if value is None or value == "":
        return Text("-")
    return Text(one_line(f"{value:.4g}" if isinstance(value, float) else str(value), 1000))
