"""Which ledger a kit may use: made once, shared, and never at zero again by itself."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.client.privacy.test_ledger import DELTA, entry
from tests.client.privacy.test_shared_ledger import OLD, gaussian, version_1
from tests.provisioning import federation
from wardround.client.data.witness import Anchor
from wardround.client.privacy.account import check_anchor
from wardround.client.privacy.entries import Entry, Limit
from wardround.client.privacy.ledger import Ledger, hospital_of
from wardround.client.site.held_out import tell_held_out
from wardround.client.site.kit import Kit
from wardround.client.site.ledger import accept, ledger_of, lost, settle, state_of, witness_of
from wardround.client.site.policy import load_site
from wardround.client.site.siblings import shared_data, unlike_held_out
from wardround.common.audit.log import AuditLog
from wardround.common.audit.restart import restart_log
from wardround.common.errors import AuditError, PrivacyRefused
from wardround.common.privacy.accounting import Release
from wardround.common.process.main import main
from wardround.common.trust.identity import Identity
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

FREE = Limit(math.inf, DELTA, "patient")


class Client:
    """What a hospital's process does with its ledger, between a start and its end."""

    def __init__(self, kit: Path, greet: bool = True) -> None:
        self.kit = Kit.open(kit)
        path = self.kit.state / "audit.jsonl"
        self.audit = AuditLog.open(path, self.kit.name, self.kit.identity)
        self.witness = witness_of(self.kit, self.audit)
        settle(self.kit, load_site(self.kit.site_path), self.witness)
        if greet:
            self.witness.countersigned()

    @property
    def path(self) -> Path:
        return ledger_of(load_site(self.kit.site_path), self.kit.folder)

    def spend(self, noise: float, number: int = 0) -> None:
        """As ``client/privacy/account.py`` pays."""
        paid = replace(entry(number, Release(noise)), federation=self.kit.info.federation)
        anchor = self.witness.newest()
        with Ledger.open(self.path, self.kit.name) as ledger:
            check_anchor(ledger, anchor)
            ledger.spend(paid, FREE)
            self.witness.add(Anchor(*ledger.head), ledger.entries()[-1].content())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.audit.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital with kits of two federations."""
    hospital = tmp_path_factory.mktemp("hospital")
    for name in ("heart", "lungs"):
        made = provision.provision(federation(hospital / "by" / name, name), now=now_utc())
        shutil.copytree(made.kits[0], hospital / "kits" / name)
    return hospital / "kits"


@pytest.fixture
def kits(two: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(two, tmp_path / "kits")
    for name in ("heart", "lungs"):
        site = tmp_path / "kits" / name / "site.toml"
        site.write_text("ledger = '../../shared/ledger.sqlite'\n")
    return tmp_path / "kits" / "heart", tmp_path / "kits" / "lungs"


def shared(kit: Path) -> Path:
    return kit.parent.parent / "shared" / "ledger.sqlite"


def spent(path: Path) -> float:
    with Ledger.open(path, hospital_of(path)) as ledger:
        return ledger.spent(DELTA, "patient")


def refused(kit: Path) -> str:
    """Why a client of this kit does nothing private, in one line."""
    with Client(kit) as client, pytest.raises(PrivacyRefused) as caught:
        client.spend(9.0, 99)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def forget_state(kit: Path) -> None:
    shutil.rmtree(kit / "state")


# --- one for all ----------------------------------------------------------------------------------
def test_two_kits_share_a_ledger_and_each_log_has_its_head(kits) -> None:
    heart, lungs = kits
    with Client(heart) as one, Client(lungs) as two:
        one.spend(4.0)
        two.spend(5.0)
        one.spend(6.0, 1)
        assert spent(shared(heart)) == pytest.approx(gaussian(4.0, 5.0, 6.0), rel=1e-9)
    assert not (heart / "state" / "ledger.sqlite").exists()
    for kit, names in ((heart, "heart"), (lungs, "lungs")):
        text = state_of(Kit.open(kit))
        assert "intact, 3 releases" in text and f"north in '{names}'" in text
    log = (lungs / "state" / "audit.jsonl").read_text()
    assert log.count('"event":"ledger"') == 2  # its start, its spending


def test_two_studies_that_are_told_of_in_the_other_order_never_put_the_log_back(kits) -> None:
    """Both have paid when the first one's head is read, and the second one's comes first."""
    heart, _ = kits
    with Client(heart) as client:
        client.spend(4.0)
        first = client.witness.newest()
        client.spend(5.0, 1)
        second = client.witness.newest()
        client.witness.add(first, {"late": True})
        assert client.witness.newest() == second and second.number == first.number + 1
    rows = [told for told in read_events(heart) if told["event"] == "ledger"]
    assert [row["rows"] for row in rows[-3:]] == [first.number, second.number, second.number]
    assert rows[-1]["entry"]["late"] is True  # what it paid stands there all the same


def read_events(kit: Path) -> list[dict[str, Any]]:
    path = kit / "state" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_by_default_a_kit_has_its_own(kits) -> None:
    heart, _ = kits
    (heart / "site.toml").write_text("")
    with Client(heart) as client:
        client.spend(4.0)
    assert spent(heart / "state" / "ledger.sqlite") == pytest.approx(gaussian(4.0), rel=1e-9)


def test_nothing_is_spent_before_the_server_has_countersigned_the_log(kits, monkeypatch) -> None:
    monkeypatch.setattr("wardround.client.privacy.witness._PATIENCE_S", 0.0)
    with Client(kits[0], greet=False) as client:
        with pytest.raises(PrivacyRefused, match="hasn't countersigned"):
            client.spend(4.0)
        client.witness.countersigned()
        client.spend(4.0)


# --- what was removed or put back -----------------------------------------------------------------
def test_a_ledger_that_is_gone_emptied_older_or_another_one_is_refused(kits, tmp_path) -> None:
    heart, _ = kits
    path = shared(heart)
    with Client(heart) as client:
        client.spend(4.0)
        shutil.copytree(path.parent, tmp_path / "older")
        client.spend(5.0, 1)
    shutil.copytree(path.parent, tmp_path / "newest")

    def put(folder: Path | None) -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        if folder is not None:
            shutil.copytree(folder, path.parent)

    put(None)
    assert "is missing; restore it" in refused(heart)
    put(tmp_path / "older")
    assert "has 3 rows, and this kit's audit log knows 4: it is an older one" in refused(heart)
    with Ledger.open(path, "north") as ledger:  # and goes on elsewhere
        ledger.spend(entry(7), FREE)
        ledger.spend(entry(8), FREE)
    assert "this is another privacy ledger" in refused(heart)
    put(None)
    Ledger.create(path, "north").close()
    assert "has 1 rows" in refused(heart)
    put(tmp_path / "newest")
    path.write_bytes(b"")
    assert "can't be trusted" in refused(heart)
    put(tmp_path / "newest")
    with Client(heart) as client:
        client.spend(6.0, 2)
    assert spent(path) == pytest.approx(gaussian(4.0, 5.0, 6.0), rel=1e-9)


def test_a_ledger_that_is_put_back_while_a_client_runs_is_noticed(kits, tmp_path) -> None:
    heart, _ = kits
    path = shared(heart)
    with Client(heart) as client:
        client.spend(4.0)
        shutil.copytree(path.parent, tmp_path / "older")
        client.spend(5.0, 1)
        shutil.rmtree(path.parent)
        shutil.copytree(tmp_path / "older", path.parent)
        with pytest.raises(PrivacyRefused, match="older one"):
            client.spend(6.0, 2)
        shutil.rmtree(path.parent)
        with pytest.raises(PrivacyRefused, match="missing"):
            client.spend(6.0, 2)
    assert not path.exists()


def test_a_new_kit_makes_no_ledger_where_another_one_has_used_it(kits) -> None:
    heart, lungs = kits
    with Client(heart) as client:
        client.spend(4.0)
    shutil.rmtree(shared(heart).parent)
    assert "the kit" in (why := refused(lungs)) and "has used it" in why
    assert not shared(heart).exists()


def test_without_its_state_a_kit_goes_on_with_the_shared_sum(kits) -> None:
    heart, _ = kits
    with Client(heart) as client:
        client.spend(4.0)
    forget_state(heart)
    with Client(heart) as client:
        client.spend(5.0, 1)
    assert spent(shared(heart)) == pytest.approx(gaussian(4.0, 5.0), rel=1e-9)


# --- what the server remembers --------------------------------------------------------------------
class Server:
    """Countersigns a hospital's log, and sends what it remembers at each connection."""

    def __init__(self, folder: Path) -> None:
        self.identity = Identity.generate()
        self.log = AuditLog.open(folder / "server.jsonl", "server", self.identity)

    def greet(self, client: Client) -> None:
        """As ``server/reception/diary.py`` and ``client/process/main.py`` do it."""
        public = client.kit.identity.public
        head = client.audit.signed_head()
        told = []
        if last := self.log.countersigned_of(client.kit.name):
            told.append((last.head, last.signature, False))
        try:
            told.append((head, self.log.countersign(head, public), True))
        except AuditError:
            pass  # it went back
        for one, signature, new in told:
            if client.witness.remembers(one, signature, self.identity.public):
                client.audit.add_countersignature(one, "server", self.identity.public, signature)
                if new:
                    client.witness.countersigned()


@pytest.fixture
def server(tmp_path: Path):
    made = Server(tmp_path)
    yield made
    made.log.close()


def test_without_state_and_ledger_the_server_knows_that_there_was_one(kits, server: Server) -> None:
    heart, _ = kits
    (heart / "site.toml").write_text("")  # the ledger lies in the kit's state
    with Client(heart, greet=False) as client:
        server.greet(client)
        client.spend(4.0)
        server.greet(client)
        seen = client.audit.head.seq - 1
    forget_state(heart)
    with Client(heart, greet=False) as client:
        server.greet(client)
        with pytest.raises(PrivacyRefused, match=rf"countersigned line {seen} .* isn't here"):
            client.spend(5.0)
    for _ in range(6):  # it grows past what the server has signed: that changes nothing
        with Client(heart, greet=False) as client:
            server.greet(client)
            with pytest.raises(PrivacyRefused, match=f"countersigned line {seen} "):
                client.spend(5.0)
            assert client.audit.path.read_text().count('"event":"log lost"') == 1
            client.audit.append("started")
    assert client.audit.head.seq > seen

    assert accept(Kit.open(heart), "the disk was lost; nothing else is known", []) == 0
    with Client(heart, greet=False) as client:
        server.greet(client)
        client.spend(5.0)


def test_a_log_and_a_ledger_from_one_old_backup_are_noticed(
    kits, server: Server, tmp_path: Path
) -> None:
    heart, _ = kits
    (heart / "site.toml").write_text("")
    with Client(heart, greet=False) as client:
        server.greet(client)
        client.spend(4.0)
    shutil.copytree(heart / "state", tmp_path / "backup")
    with Client(heart, greet=False) as client:
        server.greet(client)
        client.spend(5.0, 1)
        server.greet(client)
    forget_state(heart)
    shutil.copytree(tmp_path / "backup", heart / "state")
    with Client(heart, greet=False) as client:
        server.greet(client)
        with pytest.raises(PrivacyRefused, match="was removed or put back"):
            client.spend(6.0, 2)


def test_a_head_that_the_server_did_not_sign_stops_nobody(kits, server: Server) -> None:
    with Client(kits[0], greet=False) as client:
        head = replace(client.audit.signed_head(), seq=900)
        forged = Identity.generate().sign(head.countersigned("server"))
        assert client.witness.remembers(head, forged, server.identity.public)
        server.greet(client)
        client.spend(4.0)


def test_a_server_that_knows_the_log_stops_nobody(kits, server: Server) -> None:
    heart, _ = kits
    for number in range(3):
        with Client(heart, greet=False) as client:
            server.greet(client)
            client.spend(4.0, number)


# --- a person's word ------------------------------------------------------------------------------
def test_what_each_kit_has_spent_comes_back_from_its_audit_log(kits, tmp_path: Path) -> None:
    heart, lungs = kits
    with Client(heart) as one, Client(lungs) as two:
        one.spend(4.0)
        two.spend(5.0)
        one.spend(6.0, 1)
    before = spent(shared(heart))
    shutil.rmtree(shared(heart).parent)
    kit = Kit.open(heart)
    assert len(lost(kit, shared(heart), [])) == 2
    assert accept(kit, "the disk failed", []) == 2
    assert "another privacy ledger" in refused(lungs) or "older one" in refused(lungs)
    assert accept(Kit.open(lungs), "the disk failed", []) == 1
    assert accept(Kit.open(lungs), "once more", []) == 0
    assert spent(shared(heart)) == pytest.approx(before, rel=1e-9)
    with Client(heart) as one, Client(lungs) as two:
        two.spend(7.0, 2)
        one.spend(8.0, 3)
    assert spent(shared(heart)) == pytest.approx(gaussian(4.0, 5.0, 6.0, 7.0, 8.0), rel=1e-9)


def test_a_log_that_was_begun_anew_vouches_for_nothing_until_a_person_says_so(kits) -> None:
    heart, _ = kits
    with Client(heart) as client:
        client.spend(4.0)
    log = heart / "state" / "audit.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], b"{}\n", *lines[2:]]))
    restart_log(log)
    assert "was begun anew" in refused(heart)
    assert accept(Kit.open(heart), "a line was damaged", []) == 0
    with Client(heart) as client:
        client.spend(5.0, 1)


def test_a_kit_of_an_older_wardround_keeps_what_it_has_spent(kits) -> None:
    """Its log knows of no ledger: it goes on with its own, and shares one once it is taken over."""
    heart, lungs = kits
    with Client(lungs) as client:
        client.spend(5.0)
    state = Kit.open(heart).state
    (state / "begun").touch()
    version_1(state / "ledger.sqlite", [OLD])
    assert "holds spendings" in refused(heart)
    assert accept(Kit.open(heart), "one ledger for all", []) == 1
    with Client(heart) as client:
        client.spend(6.0, 1)
    assert spent(shared(heart)) == pytest.approx(gaussian(4.0, 5.0, 6.0), rel=1e-9)


def test_a_kit_of_an_older_wardround_goes_on_with_its_own(kits) -> None:
    heart, _ = kits
    (heart / "site.toml").write_text("")
    state = Kit.open(heart).state
    (state / "begun").touch()
    version_1(state / "ledger.sqlite", [OLD])
    with Client(heart) as client:
        client.spend(5.0, 1)
    assert spent(state / "ledger.sqlite") == pytest.approx(gaussian(4.0, 5.0), rel=1e-9)
    (state / "ledger.sqlite").unlink()
    assert "missing" in refused(heart)


def test_a_kit_that_was_in_use_begins_a_shared_ledger_when_a_person_says_so(kits) -> None:
    """It is told how, and not that anything is lost."""
    heart, _ = kits
    text = (heart / "site.toml").read_text()
    (heart / "site.toml").write_text("")
    with Client(heart) as client:
        client.spend(4.0)
    (heart / "site.toml").write_text(text)
    assert "this kit has had" in refused(heart) and "--accept REASON" in refused(heart)
    with pytest.raises(PrivacyRefused, match="if it was there before, restore it"):
        state_of(Kit.open(heart))
    assert accept(Kit.open(heart), "one ledger for all", []) == 1
    with Client(heart) as client:
        client.spend(5.0, 1)
    assert spent(shared(heart)) == pytest.approx(gaussian(4.0, 5.0), rel=1e-9)


def test_a_ledger_of_another_kit_is_taken_over_by_name(kits, tmp_path: Path) -> None:
    heart, lungs = kits
    (lungs / "site.toml").write_text("")
    with Client(lungs) as client:
        client.spend(5.0)
    with Client(heart) as client:
        client.spend(4.0)
    other = lungs / "state" / "ledger.sqlite"
    assert accept(Kit.open(heart), "the same patients", [other]) == 1
    assert spent(shared(heart)) == pytest.approx(gaussian(4.0, 5.0), rel=1e-9)


def test_what_was_spent_stands_in_the_log_without_whom_it_touched(kits) -> None:
    heart, _ = kits
    with Client(heart) as client:
        with Ledger.open(client.path, "north") as ledger:
            ledger.spend(entry(0), Limit(9.0, DELTA, "patient", each_patient=True), ["4711"])
            (paid,) = ledger.entries()
            client.witness.add(Anchor(*ledger.head), paid.content())
    text = (heart / "state" / "audit.jsonl").read_text()
    assert paid.units and paid.units not in text
    assert Entry.of(paid.content()) == paid


# --- the same data, two ledgers -------------------------------------------------------------------
def test_kits_that_share_data_but_no_ledger_are_named(kits, tmp_path: Path) -> None:
    heart, lungs = kits
    for kit, digest in ((heart, "aa"), (lungs, "bb")):
        (kit / "site.toml").write_text("")
        with Client(kit) as client:
            client.audit.append("data", run="run-1", digest=digest, rows=9)
    assert list(shared_data(heart)) == []
    with Client(lungs) as client:
        client.audit.append("data", run="run-2", digest="aa", rows=9)
    (found,) = shared_data(heart)
    assert found.state == "warning" and str(lungs) in found.text
    with Client(lungs) as client:
        client.spend(4.0)
    (found,) = shared_data(heart)
    assert found.state == "error" and "ledger = ..." in found.text
    elsewhere = tmp_path / "elsewhere"
    shutil.move(lungs, elsewhere)
    assert list(shared_data(heart)) == []
    assert len(list(shared_data(heart, [elsewhere]))) == 1
    shutil.move(elsewhere, lungs)
    for kit in kits:
        (kit / "site.toml").write_text("ledger = '../../shared/ledger.sqlite'\n")
    (found,) = shared_data(heart)
    assert found.state == "ok"


# --- the command ----------------------------------------------------------------------------------
def said(monkeypatch, capsys, *command: object) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["wardround", *map(str, command)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((told.out + told.err).split())


def test_a_person_looks_and_accepts_by_command(kits, monkeypatch, capsys) -> None:
    heart, lungs = kits
    with Client(heart) as client:
        client.spend(4.0)
        code, words = said(monkeypatch, capsys, "client", "ledger", heart, "--accept", "now")
        assert code == AuditError.exit_code and "stop that one first" in words
    code, words = said(monkeypatch, capsys, "client", "ledger", heart)
    assert code == 0 and "intact, 1 releases" in words
    shutil.rmtree(shared(heart).parent)
    code, words = said(monkeypatch, capsys, "client", "ledger", heart)
    assert code == PrivacyRefused.exit_code and "lacks 1 releases" in words
    code, words = said(monkeypatch, capsys, "client", "ledger", heart, "--accept", " ")
    assert code != 0 and "reason" in words
    code, words = said(monkeypatch, capsys, "client", "ledger", heart, "--accept", "a fire")
    assert code == 0 and "1 releases were added" in words
    code, words = said(monkeypatch, capsys, "client", "ledger", heart)
    assert code == 0 and "intact, 1 releases" in words
    assert '"accepted":"a fire"' in (heart / "state" / "audit.jsonl").read_text()


def test_kits_that_hold_out_unlike_rows_of_one_data_set_are_named(kits) -> None:
    heart, lungs = kits
    for kit in kits:
        with Client(kit) as client:
            client.audit.append("data", run="run-1", digest="aa", rows=9)
            tell_held_out(load_site(kit / "site.toml"), kit, client.audit)
    (found,) = unlike_held_out(heart)
    assert found.state == "warning" and str(lungs) in found.text
    for kit in kits:
        (kit / "site.toml").write_text("held_out_key = '../../shared/held_out.key'\n")
        with Client(kit) as client:
            tell_held_out(load_site(kit / "site.toml"), kit, client.audit)
    assert list(unlike_held_out(heart)) == []


def test_the_doctor_takes_several_kits(kits, monkeypatch, capsys, tmp_path: Path) -> None:
    heart, lungs = kits
    for kit in kits:
        (kit / "site.toml").write_text("")
        with Client(kit) as client:
            client.audit.append("data", run="run-1", digest="aa", rows=9)
    elsewhere = tmp_path / "elsewhere" / "lungs"
    shutil.copytree(lungs, elsewhere)
    shutil.rmtree(lungs)
    assert "shared data" not in said(monkeypatch, capsys, "doctor", heart)[1]
    words = said(monkeypatch, capsys, "doctor", heart, elsewhere)[1]
    assert words.count("shared data") == 2 and "has another privacy ledger" in words
