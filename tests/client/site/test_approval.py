"""A person's approval: of exactly one plan, signed, kept over a crash; and the plan for people."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.stage_two import stage_two
from wardround.client.site import approval
from wardround.client.site.approval import Approvals, plan_text
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import PolicyRefused, ProvisionError
from wardround.common.flower.arrays import ArraySpec
from wardround.common.manifest.manifest import Manifest
from wardround.common.text import one_line
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.identity import Identity
from wardround.server.reception.manifest import preparation_manifest

KEYS = {f"h{number}": Identity.generate().public for number in range(3)}
OWN, SERVER = Identity.generate(), Identity.generate()
WAITS = r"waits for approval: run `wardround client approve KIT`"
LAYOUT = {"weight": ArraySpec((2, 3), "float32"), "mean": ArraySpec((3,), "float32")}

UNTIL = "2026-01-31T00:00:00+00:00"


def plan(text: str = "", run: str = "run-1") -> Manifest:
    config = parse_config(text)
    now = "2026-01-01T00:00:00+00:00"
    toml, key = shared_toml(config), SERVER.public
    described = Description("federation", 1, "localhost:8443", toml, key, KEYS, (), now, UNTIL)
    return preparation_manifest(config, make_task(config), described, run)


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "approvals").iterdir())


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals(tmp_path, OWN)


def test_a_plan_waits_until_a_person_in_another_process_approves_it(approvals, tmp_path) -> None:
    one = plan()
    for _ in range(2):
        with pytest.raises(PolicyRefused, match=WAITS) as refused:
            approvals.request(one)
    assert one.digest().hex()[:12] in str(refused.value) and str(tmp_path) not in str(refused.value)
    assert not approvals.is_approved(one) and files(tmp_path) == [".pending"]

    person = Approvals(tmp_path, OWN)
    assert person.pending() == [one]
    assert person.approve(one.digest(), "A. Person\n") == one
    assert person.pending() == [] and files(tmp_path) == [".approved"]
    approvals.request(one)
    assert approvals.is_approved(one)
    (found,) = approvals.decisions("approved")
    assert (found.manifest, found.answer, found.who) == (one, "approved", "A. Person")
    assert found.time.endswith("+00:00")
    for path in (tmp_path / "approvals").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "approvals").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "other",
    [
        plan(run="run-2"),
        plan("[federation]\nrounds = 21\n"),
        plan("[secure_aggregation]\nmin_cohort = 2\n"),
        plan("[training]\nlr = 0.5\n"),
    ],
)
def test_an_approval_is_of_one_plan_only(approvals, other: Manifest) -> None:
    for one in (plan(), other):
        with pytest.raises(PolicyRefused, match=WAITS):
            approvals.request(one)
    assert {x.digest() for x in approvals.pending()} == {plan().digest(), other.digest()}
    approvals.approve(plan().digest().hex()[:10])
    assert approvals.is_approved(plan()) and not approvals.is_approved(other)
    assert approvals.pending() == [other]


def test_a_rejected_plan_stays_rejected_until_it_is_approved(approvals, tmp_path) -> None:
    one = plan()
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    approvals.reject(one.digest(), "too many\nrounds")
    assert files(tmp_path) == [".rejected"] and approvals.pending() == []
    with pytest.raises(PolicyRefused, match="rejected the plan of run 'run-1': too many rounds"):
        approvals.request(one)
    approvals.approve(one.digest())
    assert approvals.is_approved(one) and files(tmp_path) == [".approved"]
    approvals.reject(one.digest(), "")
    assert not approvals.is_approved(one)
    with pytest.raises(PolicyRefused, match="no reason given"):
        approvals.request(one)


def test_a_crash_between_two_answers_leaves_the_refusal(approvals, tmp_path) -> None:
    one = plan()
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    approvals.approve(one.digest())
    name = f"{one.digest().hex()}"
    approved = (tmp_path / "approvals" / f"{name}.approved").read_bytes()
    approvals.reject(one.digest(), "no")
    (tmp_path / "approvals" / f"{name}.approved").write_bytes(approved)
    assert not approvals.is_approved(one) and not list(approvals.decisions("approved"))


# --- the second stage -----------------------------------------------------------------------------
def test_the_second_stage_of_an_approved_plan_needs_no_second_approval(approvals) -> None:
    one = plan()
    two = stage_two(one, LAYOUT, ["weight"], {})
    assert not approvals.is_approved(two)
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    assert not approvals.is_approved(two)
    approvals.approve(one.digest())
    assert approvals.is_approved(two)
    approvals.request(two)
    assert not approvals.is_approved(two.model_copy(update={"rounds": 21}))
    approvals.reject(one.digest(), "second thoughts")
    assert not approvals.is_approved(two)


def test_weaker_protection_in_the_second_stage_asks_again(approvals) -> None:
    """A private run's model turns out to have running statistics, which carry no noise."""
    one = plan("[privacy]\nunit = 'hospital'\nepsilon = 3.0\n")
    fine = stage_two(one, {"weight": LAYOUT["weight"]}, ["weight"], {})
    weak = stage_two(one, LAYOUT, ["weight"], {})
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    approvals.approve(one.digest())
    assert approvals.is_approved(fine) and not approvals.is_approved(weak)
    with pytest.raises(PolicyRefused, match=WAITS):
        approvals.request(weak)
    approvals.approve(weak.digest())
    assert approvals.is_approved(weak)


# --- altered files --------------------------------------------------------------------------------
def alter(values: dict[str, Any], key: str) -> None:
    if key == "manifest":
        values[key] = plan("[federation]\nrounds = 99\n").body().decode()
    elif key == "signature":
        values[key] = Identity.generate().sign(b"x").hex()
    else:
        values[key] = "2027-01-01T00:00:00+00:00"


@pytest.mark.parametrize("key", ["manifest", "answer", "time", "who", "reason", "signature", "x"])
def test_an_altered_or_foreign_approval_is_none(approvals, tmp_path, key: str) -> None:
    one = plan()
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    approvals.approve(one.digest(), "A. Person")
    path = tmp_path / "approvals" / f"{one.digest().hex()}.approved"
    values = json.loads(path.read_bytes())
    signed = {"manifest", "answer", "time", "who", "reason", "signature"}
    assert set(values) == {"format", "version", *signed}
    alter(values, key)
    path.write_text(json.dumps(values))
    assert not approvals.is_approved(one) and not list(approvals.decisions("approved"))
    with pytest.raises(PolicyRefused, match="was altered"):
        approvals.approve(one.digest())
    with pytest.raises(PolicyRefused, match=WAITS):
        approvals.request(one)


def test_a_decision_from_before_there_were_versions_counts_and_a_newer_one_stops_all(
    approvals, tmp_path
) -> None:
    one, other = plan(), plan("[federation]\nrounds = 99\n")
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    approvals.reject(one.digest(), "no")
    path = tmp_path / "approvals" / f"{one.digest().hex()}.rejected"
    values = json.loads(path.read_bytes())
    del values["format"], values["version"]
    path.write_text(json.dumps(values))
    with pytest.raises(PolicyRefused, match="rejected.*'run-1': no"):
        approvals.check_consent(other)
    path.write_text(json.dumps(values | {"version": 2, "until": "2030"}))
    with pytest.raises(ProvisionError, match=r"version 2.*reads up to 1; install.*or remove the f"):
        approvals.check_consent(other)
    path.unlink()
    approvals.check_consent(other)


def test_an_approval_is_not_another_hospitals_nor_another_plans(approvals, tmp_path) -> None:
    one, other = plan(), plan(run="run-2")
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    approvals.approve(one.digest())
    assert not Approvals(tmp_path, Identity.generate()).is_approved(one)
    path = tmp_path / "approvals" / f"{one.digest().hex()}.approved"
    path.rename(path.with_name(f"{other.digest().hex()}.approved"))
    assert not approvals.is_approved(one) and not approvals.is_approved(other)
    for torn in (b"", b"{", b"[]", b'{"signature": 1}', b"\xff"):
        path.write_bytes(torn)
        assert not approvals.is_approved(one)


def test_a_pending_file_of_another_plan_is_not_signed(approvals, tmp_path) -> None:
    """What a person was shown is what is signed."""
    one = plan()
    with pytest.raises(PolicyRefused):
        approvals.request(one)
    path = tmp_path / "approvals" / f"{one.digest().hex()}.pending"
    path.write_bytes(plan(run="run-2").body())
    with pytest.raises(PolicyRefused, match="another plan than its name"):
        approvals.approve(one.digest())
    assert files(tmp_path) == [".pending"]


def test_a_server_that_makes_many_plans_fills_no_disk(approvals, tmp_path) -> None:
    plans = [plan(run=f"run-{number}") for number in range(approval.MOST_PENDING + 3)]
    for number, one in enumerate(plans):
        with pytest.raises(PolicyRefused, match=WAITS):
            approvals.request(one)
        path = tmp_path / "approvals" / f"{one.digest().hex()}.pending"
        os.utime(path, (number, number))  # a clock may be too coarse to order them
    assert approvals.pending() == plans[3:]
    for torn in (b"", b"{}", plans[0].body()):
        (tmp_path / "approvals" / f"{plans[-1].digest().hex()}.pending").write_bytes(torn)
        assert approvals.pending() == plans[3:-1]


@pytest.mark.parametrize("name", ["", "../x", "*", "AB", "ab" * 33, "zz"])
def test_what_is_no_digest_or_unknown_is_refused_in_a_line(approvals, name: str) -> None:
    with pytest.raises(PolicyRefused, match="no plan's digest"):
        approvals.approve(name)
    with pytest.raises(PolicyRefused, match="no plan begins with ab"):
        approvals.reject("ab", "no")


def test_two_plans_with_one_beginning_are_not_guessed(approvals, tmp_path) -> None:
    for number in range(20):  # two of 20 begin with the same hexadecimal digit
        with pytest.raises(PolicyRefused):
            approvals.request(plan(run=f"run-{number}"))
    digits = [one.digest().hex()[0] for one in approvals.pending()]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(PolicyRefused, match="plans begin with"):
        approvals.approve(twice)
    assert set(files(tmp_path)) == {".pending"}


def test_a_user_without_a_name_is_no_obstacle(approvals, monkeypatch) -> None:
    def fail() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(approval.getpass, "getuser", fail)
    with pytest.raises(PolicyRefused):
        approvals.request(plan())
    approvals.approve(plan().digest())
    assert next(approvals.decisions("approved")).who == "unknown"


# --- the plan for people --------------------------------------------------------------------------
PRIVATE = "[privacy]\nunit = 'example'\nnoise_multiplier = 1.5\n"
PLAIN = "[secure_aggregation]\nenabled = false\n"


@pytest.mark.parametrize("text", ["", PLAIN, PRIVATE, "[strategy]\nname = 'scaffold'\n"])
def test_the_plan_shows_every_leaf_and_what_protects_it(text: str) -> None:
    one = plan(text)
    records = {"control": {"weight": LAYOUT["weight"]}} if "scaffold" in text else {}
    for manifest in (one, stage_two(one, LAYOUT, ["weight"], records)):
        shown = plan_text(manifest)
        assert all(len(line) <= 100 for line in shown.splitlines())
        assert manifest.digest().hex() in shown and "run-1" in shown and "h0, h1, h2" in shown
        for leaf in manifest.leaves:
            name = "every array" if leaf.name == "*" else leaf.name
            kind, protection = re.escape(leaf.message_type), re.escape(leaf.protection)
            row = rf"^ {kind} +{leaf.record} +[^\n]*{name}[^\n]* {protection}$"
            folded = rf"^ {kind} +{leaf.record} [^\n]* {protection}\n +[^\n]*{name}"
            assert re.search(row, shown, re.M) or re.search(folded, shown, re.M), leaf
            assert f"\n{leaf.protection}: " in shown


def test_the_plan_says_plainly_what_is_off_and_how_much_is_planned() -> None:
    assert "the server sees this hospital's own updates" in plan_text(plan(PLAIN))
    assert "may tell of single patients" in plan_text(plan())
    shown = plan_text(plan(PRIVATE))
    assert "of each example: noise multiplier 1.5 at delta 1e-05, local noise" in shown
    assert "epsilon 3 for the run" in plan_text(
        plan("[privacy]\nunit = 'patient'\nepsilon = 3.0\n")
    )
    second = stage_two(plan(PLAIN), LAYOUT, ["weight"], {})
    assert "float32 2 x 3" in plan_text(second) and "2: with the model's arrays" in plan_text(
        second
    )


def words(manifest: Manifest) -> str:
    """The plan as one line, however its cells are folded."""
    return " ".join(plan_text(manifest).split())


def test_the_plan_says_how_often_is_asked_and_what_bounds_an_answer() -> None:
    """Of three hospitals' sums only those of all are opened: floor(0.667 x 3) + 1."""
    first = plan("[federation]\nrounds = 7\n[secure_aggregation]\nclip = 0.25\nmin_cohort = 2\n")
    second = stage_two(first, LAYOUT, ["weight"], {}).model_copy(
        update={"largest_weight": 321, "first_model": "ab" * 32}
    )
    for shown in map(words, (first, second)):
        assert "training in 7 rounds; figures after each of 7 rounds" in shown
        assert f"for each at most {first.uploads} masked vectors, of which one sum" in shown
        assert "sums of at least 3 hospitals" in shown and "is clipped at 0.25" in shown
    assert "largest weight of a hospital: known with the second manifest" in words(first)
    assert "largest weight of a hospital: 321" in words(second)
    assert "ab" * 32 in words(second)
    numbers = sum(math.prod(spec.shape) for spec in LAYOUT.values())
    assert f"{numbers} numbers in {len(LAYOUT)} arrays" in words(second)
    assert "each as often as the server asks" in words(plan(PLAIN))


def test_the_plan_says_how_much_text_may_leave() -> None:
    """With masks no warning does; in plain so many lines of so many characters."""
    masked, plain = words(plan("")), words(plan(PLAIN))
    assert "warnings nothing in this run keys" in masked
    assert "hospital text, at most 64" in masked and "characters" in masked
    assert "warnings text, at most" in plain and "lines of" in plain and "0 x 0" not in masked


def test_names_from_the_server_are_shown_as_they_are(approvals) -> None:
    """No markup, no control characters: a run can't dress up its plan."""
    shown = plan_text(plan(run="[bold red]fine[/]"))
    assert "[bold red]fine[/]" in shown and "\x1b" not in shown
    assert one_line(shown.splitlines()[0]) == re.sub(" +", " ", shown.splitlines()[0])


# --- a consent that is withdrawn, or given after all ----------------------------------------------
def test_a_rejection_is_of_the_run_whatever_its_plan_becomes(approvals) -> None:
    one, renewed = plan(), plan("[federation]\nrounds = 21\n")
    approvals.request(one, ask=False)
    approvals.accept(one)
    assert approvals.in_force() == [one]
    approvals.reject(one.digest(), "the board said no")
    assert approvals.in_force() == []
    for ask in (True, False):
        with pytest.raises(PolicyRefused, match="rejected the plan of run 'run-1': the board"):
            approvals.request(renewed, ask)
    approvals.request(plan(run="run-2"), ask=False)
    assert approvals.pending() == [renewed]  # so that a person can still say yes to it
    approvals.approve(renewed.digest())
    approvals.check_consent(one)
    approvals.request(renewed)


def test_decisions_of_before_there_were_versions_are_noted_and_newer_ones_wait(
    approvals, tmp_path
) -> None:
    one, lines = plan(), tmp_path / "decisions.jsonl"
    approvals.accept(one)
    approvals.reject(one.digest(), "no", "A. Person")
    values = json.loads(lines.read_bytes())
    assert (values.pop("format"), values.pop("version")) == ("decision for the audit log", 1)
    with AuditLog.open(tmp_path / "audit.jsonl", "north", OWN) as audit:
        lines.write_text(json.dumps(values | {"version": 2}) + "\n")
        with pytest.raises(ProvisionError, match="version 2.*or move decisions.jsonl and"):
            approvals.log.note(audit)
        lines.write_text(json.dumps(values) + "\n")
        assert [one["reason"] for one in approvals.log.note(audit)] == ["no"]


def test_each_decision_is_noted_once_and_in_order(approvals, tmp_path) -> None:
    one, path = plan(), tmp_path / "audit.jsonl"
    approvals.accept(one)
    approvals.reject(one.digest(), "no", "A. Person")
    approvals.approve(one.digest(), "B. Person")
    with AuditLog.open(path, "north", OWN) as audit:
        assert approvals.log.waiting()
        assert [one["accepted"] for one in approvals.log.note(audit)] == [False, True]
        assert not approvals.log.waiting() and approvals.log.note(audit) == []
        (tmp_path / "decisions.jsonl").write_bytes(
            (tmp_path / "decisions.jsonl").read_bytes()
            + b'{"decision": "{}", "signature": "00"}\n7\nnull\n["decision"]\n'
        )
        assert approvals.log.note(audit) == []  # nobody signed those
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [(x["accepted"], x["who"], x["reason"]) for x in lines if x["event"] == "approval"]
    assert told == [(False, "A. Person", "no"), (True, "B. Person", "")]
    assert all(x["run"] == "run-1" for x in lines if x["event"] == "approval")


def test_a_rejection_that_cannot_be_read_is_not_passed_over(approvals, tmp_path, monkeypatch):
    one = plan()
    approvals.accept(one)
    approvals.reject(one.digest(), "no")
    again = Approvals(tmp_path, OWN)
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(denied()))
    with pytest.raises(ProvisionError, match="can't be read"):
        again.check_consent(one)


def denied() -> PermissionError:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES))
