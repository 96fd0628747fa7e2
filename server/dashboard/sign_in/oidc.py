"""Signing in at an OpenID Connect provider: the code flow with PKCE (RFC 7636).

What goes out with the browser is bound to it by a cookie: ``state`` (RFC 6749, 10.12), ``nonce``
and the verifier are drawn for each try, used once and forgotten after ten minutes. The ID token's
signature, issuer, audience, nonce and times are checked; only asymmetric signatures count. Tokens
are not kept.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from wardround.common.address import is_loopback
from wardround.common.settings.dashboard import DashboardTable
from wardround.common.text import one_line

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
_PENDING_S, _MOST_PENDING, _TIMEOUT_S, _LEEWAY_S, _KEPT_S = 600.0, 1000, 10.0, 60, 3600.0
_MOST_VALUES = 200
BACK = "sign-in/back"
"""Where the provider sends people to, below the dashboard's URL."""


class SignInRefused(Exception):
    """Nobody is signed in; the text is for the person's page, and tells no secret."""


@dataclass(frozen=True)
class Person:
    """Whom the provider vouches for: what to call them, and the values of the claim."""

    called: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class _Pending:
    state: str
    nonce: str
    verifier: str
    then: str
    until: float


class Provider:
    """One provider. Its methods talk to it and block; call them from a thread.

    Parameters
    ----------
    secret : of the client; '' a public client
    clock : seconds since 1970; ID tokens are held against it
    """

    def __init__(
        self, settings: DashboardTable, secret: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._secret, self._clock = settings, secret, clock
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._facts: tuple[float, dict[str, Any]] = (0.0, {})
        self._keys: tuple[float, KeySet | None] = (0.0, None)

    def begin(self, then: str) -> tuple[str, str]:
        """The provider's address for one person's browser, and a token for a cookie there.

        then : where to go in the end

        Raises SignInRefused where the provider isn't reached.
        """
        endpoint = self._endpoint("authorization_endpoint")
        token = secrets.token_urlsafe(32)
        one = _Pending(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            then=then,
            until=time.monotonic() + _PENDING_S,
        )
        with self._client() as client:
            url, _ = client.create_authorization_url(
                endpoint, state=one.state, nonce=one.nonce, code_verifier=one.verifier
            )
        with self._lock:
            self._pending[token] = one
            while len(self._pending) > _MOST_PENDING:
                self._pending.popitem(last=False)
        return str(url), token

    def finish(self, token: str, answer: Mapping[str, str]) -> tuple[Person, str]:
        """Who came back with the query ``answer`` and the cookie ``token``, and where they wanted
        to go. Raises SignInRefused."""
        with self._lock:
            one = self._pending.pop(token, None)
        if one is None or time.monotonic() > one.until:
            raise SignInRefused("this sign-in took too long, or was begun elsewhere; try again")
        if not hmac.compare_digest(one.state.encode(), answer.get("state", "").encode()):
            raise SignInRefused("the answer isn't to the question of this browser; try again")
        if answer.get("iss", self._settings.oidc_issuer) != self._settings.oidc_issuer:
            raise SignInRefused("the answer is of another provider")
        if "code" not in answer:
            why = one_line(answer.get("error_description") or answer.get("error"), 120)
            raise SignInRefused(f"the provider says: {why}")
        try:
            return self._person(one, answer["code"]), one.then
        except (JoseError, AuthlibBaseError, OSError, ValueError, KeyError, TypeError) as error:
            raise SignInRefused(f"the provider's answer isn't valid ({_said(error)})") from None

    def _person(self, one: _Pending, code: str) -> Person:
        with self._client() as client:
            token = client.fetch_token(
                self._endpoint("token_endpoint"),
                grant_type="authorization_code",
                code=code,
                code_verifier=one.verifier,
                allow_redirects=False,
            )
            claims = self._claims(str(token["id_token"]), one.nonce, str(token["access_token"]))
            name = self._settings.oidc_claim
            if name not in claims and "userinfo_endpoint" in self._discovered():
                told = client.get(self._endpoint("userinfo_endpoint"), allow_redirects=False)
                told.raise_for_status()
                more = told.json()
                if more["sub"] != claims["sub"]:
                    raise ValueError("userinfo is of another person")
                claims = more | claims
        return _of_claims(claims, name)

    def _claims(self, id_token: str, nonce: str, access_token: str) -> dict[str, Any]:
        try:
            decoded = jwt.decode(id_token, self._key_set(), algorithms=_ALGORITHMS)
        except (JoseError, ValueError):  # the provider's keys may have changed a moment ago
            decoded = jwt.decode(id_token, self._key_set(anew=True), algorithms=_ALGORITHMS)
        settings = self._settings
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            options={
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_client_id},
            },
            params={
                "nonce": nonce,
                "client_id": settings.oidc_client_id,
                "access_token": access_token,
            },
        )
        claims.validate(now=int(self._clock()), leeway=_LEEWAY_S)
        return dict(claims)

    def _client(self) -> OAuth2Session:
        settings = self._settings
        client = OAuth2Session(
            settings.oidc_client_id,
            self._secret or None,
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
            scope=settings.oidc_scopes,
            redirect_uri=f"{settings.url.rstrip('/')}/{BACK}",
            code_challenge_method="S256",
            default_timeout=_TIMEOUT_S,
        )
        # no .netrc, no proxy on the way to this machine itself
        client.trust_env = not is_loopback(urlsplit(settings.oidc_issuer).hostname or "")
        return client

    def _endpoint(self, name: str) -> str:
        """An address of the provider, encrypted as the issuer's is."""
        try:
            url = str(self._discovered()[name])
            parts = urlsplit(url)
        except (KeyError, ValueError):
            raise SignInRefused(f"the provider names no {name}") from None
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise SignInRefused(f"the provider's {name} isn't https")
        return url

    def _discovered(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery), kept for an hour."""
        at, facts = self._facts
        if facts and time.monotonic() - at < _KEPT_S:
            return facts
        issuer = self._settings.oidc_issuer
        facts = self._fetched(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if facts.get("issuer") != issuer:
            raise SignInRefused("the provider calls itself otherwise than server.dashboard says")
        self._facts = (time.monotonic(), facts)
        return facts

    def _key_set(self, anew: bool = False) -> KeySet:
        at, keys = self._keys
        if keys is None or anew or time.monotonic() - at > _KEPT_S:
            rows = self._fetched(self._endpoint("jwks_uri")).get("keys", [])
            usable = [
                row
                for row in rows
                if row.get("kty") in ("RSA", "EC", "OKP") and row.get("use", "sig") == "sig"
            ]
            keys = KeySet.import_key_set({"keys": usable})
            self._keys = (time.monotonic(), keys)
        return keys

    def _fetched(self, url: str) -> dict[str, Any]:
        try:
            with self._client() as client:
                answer = client.get(url, withhold_token=True, allow_redirects=False)
                answer.raise_for_status()
                found = answer.json()
        except (OSError, ValueError) as error:
            raise SignInRefused(f"the provider isn't reached ({_said(error)})") from None
        if not isinstance(found, dict):
            raise SignInRefused("the provider's answer isn't valid")
        return found


def _of_claims(claims: Mapping[str, Any], name: str) -> Person:
    """The person of checked claims. An e-mail that nobody verified is nobody's."""
    if name == "email" and claims.get("email_verified") is not True:
        raise SignInRefused("the provider hasn't verified this e-mail address")
    given = claims.get(name)
    values = given if isinstance(given, list) else [given]
    texts = tuple(one for one in values[:_MOST_VALUES] if isinstance(one, str))
    called = claims.get("email") or claims.get("name") or claims.get("sub")
    return Person(one_line(str(called), 100), texts)


def _said(error: Exception) -> str:
    """An error's kind, and what a provider said: no token, no address stands there."""
    if isinstance(error, AuthlibBaseError | JoseError):
        return one_line(f"{error.error}: {error.description}", 100)
    return (
        type(error).__name__ if isinstance(error, OSError | KeyError) else one_line(str(error), 80)
    )
