"""What tests of the sign-in share: accounts, a network with studies, a browser without pages."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from wardround.common.settings.dashboard import DashboardTable
from wardround.server.dashboard.sign_in.accounts import Account, LiveAccounts, changing
from wardround.server.dashboard.sign_in.oidc import Provider
from wardround.server.dashboard.sign_in.passwords import hash_password
from wardround.server.dashboard.sign_in.roles import read_roles
from wardround.server.dashboard.sign_in.sessions import Sessions
from wardround.server.dashboard.sign_in.setup import SignIn
from wardround.server.display.board_rows import RunFacts
from wardround.server.display.studies import StudiesBoard
from wardround.server.display.study_lines import Said, StudyEvent, StudyLine

PASSWORD = "correct horse battery staple"
hashed = cache(hash_password)
SEPSIS, IMAGES, FALLS = "a" * 64, "b" * 64, "c" * 64
"""Studies: anna's, which runs at north and south and that east rejected; ben's, which waits for
east; anna's, which was aborted before north said anything."""


def account(path: Path, name: str, *roles: str, password: str = PASSWORD) -> None:
    """Let somebody sign in by password; '' at a provider."""
    way = "password" if password else "provider"
    with changing(path) as accounts:
        kept = hashed(password) if password else ""
        accounts[way, name] = Account(name=name, way=way, roles=read_roles(roles), hash=kept)  # type: ignore[arg-type, index]


def sign_in(
    path: Path,
    settings: DashboardTable | None = None,
    provider: Provider | None = None,
    token: str = "",
    clock: Iterable[float] | None = None,
) -> SignIn:
    """Sign-in with the accounts of a file."""
    accounts, settings = LiveAccounts(path), settings or DashboardTable()
    sessions = (
        Sessions(accounts, 3600)
        if clock is None
        else Sessions(accounts, 3600, iter(clock).__next__)
    )
    return SignIn(
        settings=settings,
        accounts=accounts,
        sessions=sessions,
        provider=provider,
        metrics_token=token,
    )


def network() -> StudiesBoard:
    """A network with the three studies."""
    studies = StudiesBoard("trust")
    for number, name in enumerate(("north", "south", "east")):
        studies.network.connected(name, f"10.0.{number}.7:4411", "0.1.0")
    accepted, no = Said(word="accepted"), Said(word="rejected", reason="no lactate here")
    sepsis = {"north": accepted, "south": accepted, "east": no}
    wanted = {"east": Said(), "south": Said(word="accepted")}
    for line in (
        StudyLine(id=SEPSIS, name="sepsis", owner="anna", state="running", hospitals=sepsis),
        StudyLine(id=IMAGES, name="images", owner="ben", state="waiting", hospitals=wanted),
        StudyLine(
            id=FALLS, name="falls", owner="anna", state="aborted", hospitals={"north": Said()}
        ),
    ):
        studies.put(line)
    for number, (kind, new, who, reason) in enumerate(
        (
            ("decision", "accepted", "north", ""),
            ("decision", "rejected", "east", "no lactate here"),
            ("state", "queued", "server", ""),
            ("delivery", "done", "south", "results"),
        )
    ):
        studies.event(
            SEPSIS,
            StudyEvent(
                number=number, time=1.0, old="waiting", new=new, who=who, reason=reason, kind=kind
            ),
        )
    facts = RunFacts(run="sepsis-1", rounds=5, hospitals=["north", "south"], primary="auc")
    board = studies.begin(SEPSIS, facts)
    board.round_started(1, ["north", "south"], 1)
    figures = {"north": {"test": {"auc": 0.625}}, "south": {"test": {"auc": 0.875}}}
    board.round_committed(
        {"round": 1, "accepted": ["north", "south"], "hospitals": figures, "train_loss": 0.5}
        | {"overall": {"test": {"auc": 0.75}}, "seconds": {"total": 1.0}}
    )
    board.audit({"seq": 1, "event": "sent", "hash": "ab" * 32})
    board.refused("10.9.9.9:1", "its certificate has expired")
    board.replied("south", "train", "south's disk is full")
    board.warnings(["south has 12 rows"])
    return studies


class Caller:
    """One browser: it keeps cookies, and follows nothing by itself."""

    def __init__(self, url: str) -> None:
        where = urllib.parse.urlsplit(url)
        self._host, self._port = str(where.hostname), where.port
        self.cookies: dict[str, str] = {}

    def ask(
        self, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, str]:
        """An answer and its text; with ``form``, of a POST."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("GET" if form is None else "POST", path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        for line in answer.headers.get_all("set-cookie") or []:
            name, value = line.split(";")[0].split("=", 1)
            self.cookies[name] = value.strip('"')
            if not self.cookies[name]:
                del self.cookies[name]
        return answer, text

    def form_word(self, then: str = "") -> str:
        """What the form to sign in must bring back."""
        _, text = self.ask(f"/sign-in?then={then}")
        found = re.search(r'name="form" value="(\w+)"', text)
        assert found
        return found[1]

    def enter(
        self, name: str, password: str = PASSWORD, then: str = ""
    ) -> http.client.HTTPResponse:
        """Sign in by password."""
        fields = {"name": name, "password": password, "form": self.form_word(then), "then": then}
        return self.ask("/sign-in", fields)[0]
