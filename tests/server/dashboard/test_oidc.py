"""Signing in at a real OpenID Connect provider, and what must not let anybody in."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.server.dashboard.identity import (
    MISSING,
    SECRET,
    VERSION,
    IdentityProvider,
    come_back,
    free_port,
)
from tests.server.dashboard.people import SEPSIS, Caller, account, network, sign_in
from wardround.common.settings.dashboard import DashboardTable
from wardround.server.dashboard.app import serve_dashboard
from wardround.server.dashboard.sign_in.oidc import Person, Provider, SignInRefused

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


class Place(NamedTuple):
    home: str
    settings: DashboardTable
    path: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A dashboard, and the provider that its people sign in at."""
    path = tmp_path_factory.mktemp("accounts") / "accounts.json"
    account(path, "anna@example.org", "researcher:anna", password="")
    account(path, "unverified-office@example.org", "coordinator", password="")
    port = free_port()
    home = f"http://127.0.0.1:{port}/"
    with IdentityProvider(f"{home}sign-in/back") as identity:
        settings = DashboardTable(url=home, oidc_issuer=identity.issuer, oidc_client_id="wardround")
        entrance = sign_in(path, settings, Provider(settings, SECRET))
        page = serve_dashboard(network(), f"127.0.0.1:{port}", settings=settings, sign_in=entrance)
        yield Place(home, settings, path)
        page.stop()


def begin(caller: Caller, then: str = "") -> str:
    """The provider's address that a browser is sent to."""
    answer, _ = caller.ask(f"/sign-in/provider?then={then}")
    assert answer.status == 303
    return str(answer.headers["location"])


def changed(url: str, **more: str) -> str:
    """The address with other values in its query."""
    parts = urlsplit(url)
    query = urlencode(dict(parse_qsl(parts.query)) | more)
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{query}"


def back(caller: Caller, url: str, home: str) -> tuple[int, str, str]:
    """Status, where to and text of the answer to who comes back."""
    answer, text = caller.ask("/" + url.removeprefix(home))
    return answer.status, str(answer.headers["location"]), text


def test_who_has_an_account_gets_in_with_its_roles(place: Place) -> None:
    caller = Caller(place.home)
    assert 'href="sign-in/provider"' in caller.ask("/sign-in")[1]
    url = begin(caller, f"studies/{SEPSIS}")
    asked = dict(parse_qsl(urlsplit(url).query))
    assert asked["code_challenge_method"] == "S256" and asked["response_type"] == "code"
    returned = come_back(url, "anna", place.home)
    status, where, _ = back(caller, returned, place.home)
    assert (status, where) == (303, f"../studies/{SEPSIS}")
    me = json.loads(caller.ask("/api/me")[1])
    assert (me["name"], me["roles"]) == ("anna@example.org", ["researcher:anna"])
    assert "ben" not in caller.ask("/api/state")[1]
    # the same answer once more, from the same browser and from another
    for other in (caller, Caller(place.home)):
        status, _, text = back(other, returned, place.home)
        assert status == 403 and "took too long, or was begun elsewhere" in text


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("stranger", "isn't known here"),
        ("anna@example.org", "isn't known here"),  # her address as a name is another's address
        ("unverified-office", "hasn't verified this e-mail"),
    ],
)
def test_who_the_provider_knows_and_we_do_not_stays_out(place: Place, name: str, why: str) -> None:
    caller = Caller(place.home)
    status, _, text = back(caller, come_back(begin(caller), name, place.home), place.home)
    assert status == 403 and why in text.replace("&#x27;", "'")
    assert caller.ask("/api/state")[0].status == 401


def test_an_answer_to_another_browsers_question_is_refused(place: Place) -> None:
    """As when an attacker sends somebody the end of a sign-in of their own."""
    victim, attacker = Caller(place.home), Caller(place.home)
    begin(victim)
    theirs = come_back(begin(attacker), "anna", place.home)
    status, _, text = back(victim, theirs, place.home)
    assert status == 403 and "question of this browser" in text.replace("&#x27;", "'")
    assert victim.ask("/api/state")[0].status == 401


def finished(place: Place, name: str, provider: Provider, **asked: str) -> Person:
    """Who comes back, if the question is changed on its way to the provider."""
    url, token = provider.begin("")
    returned = come_back(changed(url, **asked), name, place.home)
    return provider.finish(token, dict(parse_qsl(urlsplit(returned).query)))[0]


@pytest.mark.parametrize("changes", [{"nonce": "x" * 43}, {"state": "x" * 43}])
def test_what_was_asked_must_come_back(place: Place, changes: dict[str, str]) -> None:
    why = "question of this browser" if "state" in changes else "'nonce'"
    with pytest.raises(SignInRefused, match=why):
        finished(place, "anna", Provider(place.settings, SECRET), **changes)


def test_a_code_of_another_sign_in_is_nothing_without_its_verifier(place: Place) -> None:
    provider = Provider(place.settings, SECRET)
    (url, token), (other, _) = provider.begin(""), provider.begin("")
    stolen = dict(parse_qsl(urlsplit(come_back(other, "anna", place.home)).query))["code"]
    state = dict(parse_qsl(urlsplit(url).query))["state"]
    with pytest.raises(SignInRefused, match="invalid_grant"):
        provider.finish(token, {"code": stolen, "state": state})


@pytest.mark.parametrize(
    ("away_s", "why"), [(7200, "expired_token"), (-7200, "issued in the future")]
)
def test_an_id_token_of_another_time_is_refused(place: Place, away_s: float, why: str) -> None:
    provider = Provider(place.settings, SECRET, clock=lambda: time.time() + away_s)
    with pytest.raises(SignInRefused, match=why):
        finished(place, "anna", provider)


def test_another_secret_or_issuer_is_refused(place: Place) -> None:
    with pytest.raises(SignInRefused, match="invalid_client"):
        finished(place, "anna", Provider(place.settings, "guessed"))
    renamed = place.settings.model_copy(update={"oidc_issuer": place.settings.oidc_issuer + "/"})
    with pytest.raises(SignInRefused, match="calls itself otherwise"):
        Provider(renamed, SECRET).begin("")
    provider = Provider(place.settings, SECRET)
    url, token = provider.begin("")
    state = dict(parse_qsl(urlsplit(url).query))["state"]
    with pytest.raises(SignInRefused, match="of another provider"):
        provider.finish(token, {"code": "x", "state": state, "iss": "https://evil.example"})


def test_groups_may_stand_for_people(place: Place) -> None:
    more = {"oidc_claim": "groups", "oidc_scopes": "openid email groups"}
    settings = place.settings.model_copy(update=more)
    found = finished(place, "ben", Provider(settings, SECRET))
    assert found == Person("ben@example.org", ("staff", "group-of-ben"))


def test_a_provider_that_is_away_is_said_so(tmp_path: Path) -> None:
    gone = DashboardTable(
        url="http://127.0.0.1:1", oidc_issuer=f"http://127.0.0.1:{free_port()}", oidc_client_id="x"
    )
    account(tmp_path / "a.json", "office", "coordinator", password="")
    entrance = sign_in(tmp_path / "a.json", gone, Provider(gone, ""))
    page = serve_dashboard(network(), "127.0.0.1:0", settings=gone, sign_in=entrance)
    try:
        answer, text = Caller(page.url).ask("/sign-in/provider")
    finally:
        page.stop()
    assert answer.status == 502 and "reached" in text and "127.0.0.1" not in text


def test_the_provider_that_ci_brings_is_the_one_that_is_said() -> None:
    text = (Path(__file__).parents[3] / ".ci" / "run").read_text()
    assert f"oidc-provider@{VERSION}" in text
