"""Signing in by password: sessions, forms, pauses, and what is refused before it is served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tests.server.dashboard.people import (
    PASSWORD,
    SEPSIS,
    Caller,
    account,
    hashed,
    network,
    sign_in,
)
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, ProvisionError
from wardround.common.settings.dashboard import DashboardTable
from wardround.server.dashboard.app import Dashboard, serve_dashboard
from wardround.server.dashboard.sign_in import pages as pages_module
from wardround.server.dashboard.sign_in.accounts import LiveAccounts, changing, read_accounts
from wardround.server.dashboard.sign_in.passwords import hash_password, is_password
from wardround.server.dashboard.sign_in.patience import Patience
from wardround.server.dashboard.sign_in.roles import read_role
from wardround.server.dashboard.sign_in.sessions import Sessions
from wardround.server.dashboard.sign_in.setup import open_sign_in
from wardround.server.display.board import Board

TOKEN = "0123456789abcdef-prometheus"
CLOSED = ["/api/state", "/api/events", "/api/me", f"/api/studies/{SEPSIS}/state", "/nowhere"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("accounts") / "accounts.json"
    account(path, "office", "coordinator")
    account(path, "anna", "researcher:anna")
    return path


@pytest.fixture(scope="module")
def served(path: Path) -> Iterator[Dashboard]:
    dashboard = serve_dashboard(network(), "127.0.0.1:0", sign_in=sign_in(path, token=TOKEN))
    yield dashboard
    dashboard.stop()


def test_strangers_get_the_sign_in_and_nothing_else(served: Dashboard) -> None:
    stranger = Caller(served.url)
    for where in ("/", f"/studies/{SEPSIS}"):
        answer, text = stranger.ask(where)
        then = where.removeprefix("/")
        up = "../" if then else ""
        assert (answer.status, answer.headers["location"]) == (303, f"{up}sign-in?then={then}")
        assert text == ""
    for where in CLOSED[:-1]:
        answer, text = stranger.ask(where)
        assert answer.status == 401 and "trust" not in text and "sepsis" not in text
    assert stranger.ask(CLOSED[-1])[0].status == 303  # told apart from nothing that there is
    for where in ("/page.css", "/healthz", "/sign-in"):
        assert stranger.ask(where)[0].status == 200


def test_a_session_begins_with_the_password_and_ends_with_the_form(served: Dashboard) -> None:
    office = Caller(served.url)
    answer = office.enter("office", then=f"studies/{SEPSIS}")
    assert (answer.status, answer.headers["location"]) == (303, f"studies/{SEPSIS}")
    cookies = answer.headers.get_all("set-cookie") or []
    (session,) = [one for one in cookies if one.startswith("wardround=")]
    assert "HttpOnly" in session and "SameSite=lax" in session and "Path=/" in session
    assert "Secure" not in session and "Max-Age=43200" in session  # this machine, without TLS
    assert office.ask("/")[0].status == 200 and "sepsis" in office.ask("/api/state")[1]
    me = json.loads(office.ask("/api/me")[1])
    assert (me["name"], me["roles"]) == ("office", ["coordinator"])
    stolen = dict(office.cookies)
    assert office.ask("/sign-out", {"form": "0" * 64})[0].status == 403  # another site's
    assert (
        office.ask("/sign-out", {"form": me["form"]}, sec_fetch_site="cross-site")[0].status == 403
    )
    assert office.ask("/api/me")[0].status == 200
    answer, _ = office.ask("/sign-out", {"form": me["form"]})
    assert (answer.status, answer.headers["location"]) == (303, "sign-in")
    office.cookies = stolen
    assert office.ask("/api/state")[0].status == 401


@pytest.mark.parametrize(
    "then", ["//evil.example", "studies/..", "https://evil.example", "sign-in"]
)
def test_one_is_sent_to_our_own_pages_only(served: Dashboard, then: str) -> None:
    fields = {"name": "office", "password": PASSWORD, "then": then}
    caller = Caller(served.url)
    answer, _ = caller.ask("/sign-in", fields | {"form": caller.form_word()})
    assert (answer.status, answer.headers["location"]) == (303, "./")


def test_a_name_that_is_unknown_looks_like_a_wrong_password(
    served: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to a clock: one verification of the same cost each."""
    costs: list[str] = []
    verify = PasswordHasher.verify

    def seen(self: PasswordHasher, kept: str, password: str) -> bool:
        costs.append(kept.rpartition("$")[0].rpartition("$")[0])
        return verify(self, kept, password)

    monkeypatch.setattr(PasswordHasher, "verify", seen)
    pages = []
    for name in ("office", "nobody"):
        caller = Caller(served.url)
        fields = {"name": name, "password": "wrong password", "form": caller.form_word()}
        answer, text = caller.ask("/sign-in", fields)
        pages.append((answer.status, re.sub(r'value="\w*"', "", text)))
        assert "wardround" not in caller.cookies
    assert pages[0] == pages[1] and pages[0][0] == 401
    assert "Name or password is wrong" in pages[0][1]
    assert costs == ["$argon2id$v=19$m=65536,t=3,p=4"] * 2


@pytest.mark.parametrize(
    ("more", "headers"),
    [
        ({"form": ""}, {}),
        ({"form": "f" * 64}, {}),
        ({}, {"sec_fetch_site": "cross-site"}),
        ({}, {"sec_fetch_site": "same-site"}),
        ({"name": "x" * 5000}, {}),  # longer than any form of ours
    ],
)
def test_forms_from_elsewhere_are_not_taken(
    served: Dashboard, more: dict[str, str], headers: dict[str, str]
) -> None:
    caller = Caller(served.url)
    fields = {"name": "office", "password": PASSWORD, "form": caller.form_word()} | more
    answer, text = caller.ask("/sign-in", fields, **headers)
    assert answer.status == 403 and "too old" in text and "wardround" not in caller.cookies


def test_the_word_of_one_browser_is_not_anothers(served: Dashboard) -> None:
    mine, theirs = Caller(served.url), Caller(served.url)
    word = mine.form_word()
    theirs.form_word()
    fields = {"name": "office", "password": PASSWORD, "form": word}
    assert theirs.ask("/sign-in", fields)[0].status == 403


def test_what_was_typed_comes_back_nowhere(
    served: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    caller = Caller(served.url)
    evil = "<b>evil</b>"
    fields = {"name": evil, "password": evil, "then": evil, "form": caller.form_word()}
    _, text = caller.ask("/sign-in", fields)
    assert "evil" not in text and "evil" not in caplog.text and "an unknown name" in caplog.text


def test_metrics_want_the_word_or_a_coordinator(served: Dashboard) -> None:
    caller = Caller(served.url)
    for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
        answer, _ = caller.ask("/metrics", **given)
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    answer, text = caller.ask("/metrics", authorization=f"Bearer {TOKEN}")
    assert answer.status == 200 and 'wardround_studies{state="running"} 1.0' in text
    assert 'wardround_study_round{study="sepsis-aaaaaaaaaaaa"} 1.0' in text
    assert caller.ask("/api/state", authorization=f"Bearer {TOKEN}")[0].status == 401
    caller.enter("anna")
    assert caller.ask("/metrics")[0].status == 401
    office = Caller(served.url)
    office.enter("office")
    assert office.ask("/metrics")[0].status == 200


def test_a_pause_comes_with_failures_and_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = lambda password, kept: kept is not None and password == PASSWORD  # noqa: E731
    monkeypatch.setattr(pages_module, "is_password", quick)
    account(tmp_path / "a.json", "office", "coordinator")
    page = serve_dashboard(network(), "127.0.0.1:0", sign_in=sign_in(tmp_path / "a.json"))
    try:
        for name in ("office", "nobody"):
            caller = Caller(page.url)
            statuses = [caller.enter(name, "wrong password").status for _ in range(4)]
            statuses.append(caller.enter(name).status)  # the right one, during the pause
            assert statuses == [401, 401, 401, 401, 429], name
    finally:
        page.stop()


def test_pauses_double_and_end() -> None:
    now, waits = [1000.0], []
    patience = Patience(lambda: now[0])
    assert [patience.ask("office", "10.0.0.7") for _ in range(4)] == [0, 0, 0, 0]
    for _ in range(11):
        waits.append(patience.ask("office", "10.0.0.7"))
        assert patience.ask("office", "10.0.0.7") == waits[-1]  # asking makes it no longer
        now[0] += waits[-1]
        assert patience.ask("office", "10.0.0.7") == 0
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    now[0] += 900
    assert patience.ask("office", "10.0.0.7") == 0
    patience.succeeded("office", "10.0.0.7")
    assert [patience.ask("office", "10.0.0.7") for _ in range(4)] == [0, 0, 0, 0]


def test_others_can_keep_nobody_out_for_long_and_one_network_counts_as_one() -> None:
    now = [0.0]
    patience = Patience(lambda: now[0])
    for number in range(200):
        now[0] += patience.ask("office", f"10.0.{number}.7")
        patience.ask("office", f"10.0.{number}.7")
    assert 0 < patience.ask("office", "192.0.2.1") <= 30
    longest = 0.0
    for number in range(60):  # one machine has all addresses of a /64
        longest = max(longest, patience.ask(f"name{number}", f"2001:db8::{number:x}"))
    assert longest > 0
    assert patience.ask("another", "2001:db8:0:1::1") == 0


def test_a_session_ends_with_its_time_the_password_and_the_account(tmp_path: Path) -> None:
    path, now = tmp_path / "accounts.json", [0.0]
    account(path, "anna", "researcher:anna")
    sessions = Sessions(live := LiveAccounts(path), 100.0, lambda: now[0])

    def begin() -> str:
        found = live.of_password("anna")
        assert found is not None
        return sessions.begin("anna", [found])

    token = begin()
    visitor = sessions.visitor(token)
    assert visitor is not None and visitor.parties("researcher") == {"anna"}
    assert sessions.visitor(token + "x") is None and sessions.visitor("") is None
    account(path, "anna", "researcher:anna", "hospital:north")  # another role: at once
    visitor = sessions.visitor(token)
    assert visitor is not None and visitor.parties("hospital") == {"north"}
    account(path, "anna", "researcher:anna", password="another long password")
    assert sessions.visitor(token) is None
    token = begin()
    now[0] = 100.0
    assert sessions.visitor(token) is None
    token = begin()
    with changing(path) as accounts:
        del accounts["password", "anna"]
    assert sessions.visitor(token) is None


def test_one_person_has_so_many_sessions_and_the_oldest_goes(tmp_path: Path) -> None:
    account(tmp_path / "a.json", "anna", "researcher:anna")
    sessions = Sessions(live := LiveAccounts(tmp_path / "a.json"), 100.0)
    found = live.of_password("anna")
    assert found is not None
    tokens = [sessions.begin("anna", [found]) for _ in range(25)]
    assert [sessions.visitor(one) is None for one in tokens] == [True] * 5 + [False] * 20


def test_passwords_are_kept_as_argon2id_and_bounded() -> None:
    kept = hashed(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert is_password(PASSWORD, kept) and not is_password(PASSWORD + "x", kept)
    assert not is_password("\x00" * 250, None) and not is_password("x", "$argon2id$damaged")
    for wrong in ("short", "x" * 201):
        with pytest.raises(ConfigError, match="12 to 200"):
            hash_password(wrong)


@pytest.mark.parametrize("text", ["", "admin", "coordinator:x", "researcher", "hospital:", "x:y"])
def test_roles_that_there_are_not(text: str) -> None:
    with pytest.raises(ConfigError, match="coordinator, researcher:NAME or hospital:NAME"):
        read_role(text)
    assert str(read_role("hospital:St. Mary's")).startswith("hospital:St.-Mary-s")


def test_a_file_that_is_open_to_others_or_damaged_lets_nobody_in(
    path: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "accounts.json"
    good = path.read_bytes()
    bad.write_bytes(good)
    bad.chmod(0o644)
    with pytest.raises(ProvisionError, match="chmod 600"):
        read_accounts(bad)
    bad.chmod(0o600)
    assert len(read_accounts(bad)) == 2
    live = LiveAccounts(bad)
    assert live.of_password("office") is not None
    for damage in (
        good.replace(b"coordinator", b"administrator"),
        good.replace(b"$argon2id$", b"plain"),
        good.replace(b'"version": 1', b'"version": 2'),
        good[:-20],
    ):
        bad.write_bytes(damage)
        with pytest.raises(ProvisionError, match="wardround account add"):
            read_accounts(bad)
        assert (
            LiveAccounts(bad).of_password("office") is None and live.of_password("office") is None
        )


@pytest.mark.parametrize(
    ("address", "settings", "also", "mend"),
    [
        ("0.0.0.0:0", {}, [], "server.dashboard.certificate"),
        ("127.0.0.1:0", {}, ["board.example"], "server.dashboard.url"),
        ("0.0.0.0:0", {"certificate": "no.pem", "key": "no.key"}, [], "can't be used"),
    ],
)
def test_no_password_goes_in_clear(
    path: Path, address: str, settings: dict[str, str], also: list[str], mend: str
) -> None:
    table = DashboardTable(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=mend):
        page = serve_dashboard(
            Board(), address, settings=table, sign_in=sign_in(path, table), also=also
        )
        page.stop()


def test_open_to_all_and_sign_in_are_not_both(path: Path) -> None:
    with pytest.raises(ConfigError, match="one or the other"):
        serve_dashboard(Board(), "127.0.0.1:0", sign_in=sign_in(path), open_to_all=True)


def test_behind_a_proxy_with_tls_cookies_are_held_to_it(path: Path) -> None:
    table = DashboardTable(url="https://board.example")
    page = serve_dashboard(network(), "0.0.0.0:0", settings=table, sign_in=sign_in(path, table))
    try:
        caller = Caller(page.url.replace("0.0.0.0", "127.0.0.1"))
        answer, _ = caller.ask("/sign-in", host="board.example")
        (form,) = answer.headers.get_all("set-cookie") or []
        assert form.startswith("__Host-wardround-form=") and "; Secure" in form
        assert caller.ask("/sign-in", host="evil.example")[0].status == 421
    finally:
        page.stop()


def test_what_asks_for_sign_in(path: Path, tmp_path: Path) -> None:
    config = parse_config("", path=tmp_path / "federation.toml")
    assert open_sign_in(config) is None
    made = tmp_path / "provision" / "server" / "accounts.json"
    account(made, "office", "coordinator")
    found = open_sign_in(config)
    assert found is not None and found.accounts.of_password("office")
    named = parse_config('server.dashboard.accounts = "no.json"', path=tmp_path / "f.toml")
    with pytest.raises(ProvisionError, match="wardround account add"):
        open_sign_in(named)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('url = "http://board.example"', "https"),
        ('oidc_issuer = "https://id.example"', "oidc_client_id"),
        ('certificate = "x.pem"', "go together"),
        (
            'oidc_issuer = "https://id.example"\nurl = "https://b.example"\noidc_client_id = "x"\n'
            'oidc_scopes = "email"',
            "openid",
        ),
    ],
)
def test_settings_that_cannot_work(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse_config(f"[server.dashboard]\n{text}")
