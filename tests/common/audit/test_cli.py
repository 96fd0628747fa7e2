"""``wardround audit`` as its users run it: words and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.common.audit.audit_runs import NORTH, OTHER, SERVER, exchange, message, run
from wardround.common.audit.lines import heads_path, read_records
from wardround.common.audit.log import AuditLog
from wardround.common.errors import AuditError, ConfigError
from wardround.common.process.main import app
from wardround.common.trust.description import Description
from wardround.common.trust.pki import Authority

DAY = 86_400.0


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_a_log_without_damage_exits_with_0(tmp_path: Path) -> None:
    north, server = run(tmp_path)
    result = call("verify", north)
    assert result.exit_code == 0 and "intact" not in result.stdout
    assert "13 lines, 3 countersigned heads: no damage found; countersigned heads" in result.stdout
    key = SERVER.public.hex()[:16]
    assert f"keys are as the log names them ('server': {key}); with --publics" in result.stdout
    result = call("verify", north, "--against", server)
    assert result.exit_code == 0
    assert f"intact; agrees with {server} of 'server'" in result.stdout


def test_it_says_up_to_where_a_countersigned_head_proves_a_log(tmp_path: Path) -> None:
    """Lines cut off the end: the file alone can't know of those after the last head."""
    north, server = run(tmp_path)
    records = [one.head for _, one in read_records(heads_path(north).read_bytes())[0]]
    assert max(head.seq for head in records if head.party == "north") == 11
    whole = call("verify", north).stdout
    rest = "only the other side's log can prove (--against)"
    assert (
        "heads prove it up to number 11; the last 2 lines after it, and whether any followed "
        f"number 13, {rest}" in whole
    )
    lines = north.read_bytes().splitlines(keepends=True)
    kept = heads_path(north).read_bytes().splitlines(keepends=True)
    north.write_bytes(b"".join(lines[:11]))
    cut = call("verify", north)
    assert cut.exit_code == 13 and "line 12: truncated: no line tells of the count" in cut.stdout
    # with the newest heads taken back the two fit: that is said of an older line, and no more
    heads_path(north).write_bytes(b"".join(kept[:4]))
    back = call("verify", north)
    assert back.exit_code == 0
    assert "up to number 7; the last 4 lines after it, and whether any followed" in back.stdout
    assert call("verify", north, "--against", server).exit_code == 13
    north.write_bytes(b"".join(lines[:1]))
    heads_path(north).write_bytes(b"")
    new = call("verify", north)
    assert "no countersigned head proves any of its lines: they, and whether" in new.stdout
    heads_path(north).unlink()
    missing = call("verify", north)
    assert missing.exit_code == 13 and "the file is missing, which a log has" in missing.stdout


def test_each_problem_is_a_line_and_the_exit_code_13(tmp_path: Path) -> None:
    north, server = run(tmp_path)
    lines = north.read_bytes().splitlines(keepends=True)
    north.write_bytes(b"".join([*lines[:2], lines[2].replace(b"1000", b"1001"), *lines[4:]]))
    result = call("verify", north)
    assert result.exit_code == 13 and "intact" not in result.stdout
    assert f"{north}: line 3: edited: it is not what was written\n" in result.stdout
    assert f"{north}: line 4: removed: number 4 is missing\n" in result.stdout
    assert f"{north}: line 4: removed" in call("verify", server, "--against", north).stdout


def test_messages_of_the_other_side_that_are_missing_here_are_named(tmp_path: Path) -> None:
    north, server = run(tmp_path)
    with AuditLog.open(server, "server", SERVER) as log:
        message(log, "received", "north", "secret")
        message(log, "sent", "north", "lost")
    result = call("verify", north, "--against", server)
    assert result.exit_code == 13 and f"{server}: line 14: unmatched: received" in result.stdout
    assert f"note: {server}: line 15: sent 'train' of round 1" in result.stdout


def test_no_such_log_is_one_line(tmp_path: Path) -> None:
    for command in ("verify", "show"):
        error = call(command, tmp_path / "nothing.jsonl").exception
        assert isinstance(error, AuditError) and "can't be read" in str(error)
        assert error.exit_code == 13


def test_the_description_s_keys_are_held_against_the_log_s(tmp_path: Path) -> None:
    north, _ = run(tmp_path)
    authority = Authority.create(tmp_path / "authority", "fed")
    for hospital, code in ((NORTH, 0), (OTHER, 13)):
        description = Description(
            "fed", 1, "localhost:8443", '[federation]\nname = "fed"\n', SERVER.public,
            {"north": hospital.public}, (), "2026-01-02T03:04:05+00:00",
            "2026-02-02T03:04:05+00:00",
        )  # fmt: skip
        signed = tmp_path / "federation.signed"
        signed.write_bytes(description.signed(authority))
        options = ("--publics", signed, "--ca", tmp_path / "authority" / "ca.pem")
        result = call("verify", north, *options)
        assert result.exit_code == code, result.output
        assert ("its key is not that of 'north'" in result.stdout) == bool(code)
        assert "with --publics" not in result.stdout
    (tmp_path / "ca.pem").write_bytes((tmp_path / "authority" / "ca.pem").read_bytes())
    assert call("verify", north, "--publics", signed).exit_code == 13
    assert isinstance(call("verify", north, "--ca", signed).exception, ConfigError)
    missing = call("verify", north, "--publics", tmp_path / "nothing").exception
    assert isinstance(missing, ConfigError) and "can't be read" in str(missing)


def left(folder: Path) -> Path:
    """A hospital's log of two days: three messages out, one in, an error."""
    now = [0.0]
    with AuditLog.open(folder / "audit.jsonl", "north", NORTH, lambda: now[0]) as log:
        for kind, size, spent in (("statistics", 800, None), ("train", 4_000_000, 0.25)):
            log.append(
                "sent", kind=kind, round=0, bytes=size, digest="ab" * 32,
                request=kind, protection="masked", epsilon=spent,
            )  # fmt: skip
        now[0] = 2 * DAY + 3723
        log.append(
            "sent", kind="train", round=1, bytes=4_000_001, digest="cd" * 32,
            request="b", protection="masked+noised", epsilon=0.5,
        )  # fmt: skip
        message(log, "received", "server", "down")
        log.append("error", reason="[bold]boom[/bold]")
    return log.path


def test_show_answers_what_left_when_and_for_whom(tmp_path: Path) -> None:
    text = call("show", left(tmp_path)).stdout
    assert "What left 'north' (times in UTC)" in text and "received" not in text
    row = next(line for line in text.splitlines() if "cdcdcdcdcdcd" in line)
    cells = [cell.strip() for cell in row.strip("│┃").split("│")]
    assert cells == [
        "1970-01-03 01:02:03", "1", "train", "masked+noised", "4.0 MB", "cdcdcdcdcdcd", "0.5",
        "server",
    ]  # fmt: skip
    totals = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text[text.index("In all") :].splitlines()
        if "│" in line
    ]
    assert totals == [
        ["statistics", "1", "800 bytes", "-"],
        ["train", "2", "8.0 MB", "0.5"],
        ["all", "3", "8.0 MB", "0.5"],
    ]


def test_show_filters_by_date_and_event(tmp_path: Path) -> None:
    path = left(tmp_path)
    later = call("show", path, "--since", "1970-01-02").stdout
    assert "cdcdcdcdcdcd" in later and "abababababab" not in later
    assert call("show", path, "--since", "1970-01-03T01:02:04+00:00").stdout.startswith("no event")
    assert "no event 'policy'" in call("show", path, "--event", "policy").stdout
    every = call("show", path, "--event", "all").stdout
    assert all(word in every for word in ("began", "sent", "received", "[bold]boom[/bold]"))
    wrong = call("show", path, "--since", "yesterday").exception
    assert isinstance(wrong, ConfigError) and "2026-01-31" in str(wrong)


def test_show_as_json_is_the_log_s_own_lines(tmp_path: Path) -> None:
    path = left(tmp_path)
    rows = [json.loads(line) for line in call("show", path, "--json").stdout.splitlines()]
    own = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [row for row in own if row["event"] == "sent"] and len(rows) == 3


def test_show_says_that_a_log_is_not_intact_and_shows_what_is_sound(tmp_path: Path) -> None:
    path = left(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"4000001", b"4000002"))
    result = call("show", path)
    assert "not intact; see: wardround audit verify" in result.stderr
    assert result.exit_code == 0 and "cdcdcdcdcdcd" not in result.stdout
    assert "abababababab" in result.stdout


@pytest.mark.parametrize("with_peer", [False, True])
def test_restart_keeps_the_damaged_log_and_show_still_reads_it(tmp_path: Path, with_peer) -> None:
    north, server = run(tmp_path)
    north.write_bytes(north.read_bytes().replace(b'"up-1"', b'"up-9"'))
    result = call("restart", north)
    assert result.exit_code == 0, result.output
    assert "a new audit log begins; the damaged one is kept as audit.damaged-1.js" in result.stdout
    assert isinstance(call("restart", north).exception, AuditError)
    verified = call("verify", north, *(("--against", server) if with_peer else ()))
    assert verified.exit_code == (13 if with_peer else 0)  # the edit stays visible to an auditor
    assert "after audit.damaged-1.jsonl: line 6: edited: it is not what" in verified.stdout
    assert len(call("show", north, "--json").stdout.splitlines()) == 2
    assert call("restart", north, "--after", "100").exit_code == 0
    with AuditLog.open(north, "north", NORTH) as log:
        assert log.head.seq == 101
        with AuditLog.open(server, "server", SERVER) as peer:
            exchange(log, peer, NORTH, SERVER.public)
