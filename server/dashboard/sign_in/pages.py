"""The pages and forms of signing in and out.

A form brings back a word that only this process can make for the browser's own cookie (no other
site can post it), and browsers say themselves where a request came from. Wrong name and wrong
password are told by one sentence, after the same time. What somebody typed is never logged.
"""

from __future__ import annotations

import asyncio
import html
import importlib.resources
import ipaddress
import logging
import math
import re
import secrets
from urllib.parse import parse_qsl

from fastapi import FastAPI
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.requests import Request

from wardround.server.dashboard.sign_in.accounts import LONGEST_NAME, Account
from wardround.server.dashboard.sign_in.door import cookie, cookie_name, session_token
from wardround.server.dashboard.sign_in.oidc import BACK, SignInRefused
from wardround.server.dashboard.sign_in.passwords import is_password
from wardround.server.dashboard.sign_in.patience import Patience
from wardround.server.dashboard.sign_in.setup import SignIn

log = logging.getLogger("wardround.dashboard")

PUBLIC = frozenset({"/sign-in", "/sign-in/provider", f"/{BACK}"})
POSTS = frozenset({"/sign-in", "/sign-out"})
_MOST_BYTES, _AT_ONCE, _MOST_WAITING = 4096, 2, 16
_THEN = re.compile(r"(studies/[0-9a-f]{64})?")
_WRONG = "Name or password is wrong."
_STALE = "This form was too old; try again."


class Pages:
    """The routes, and what they count."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in, self._patience = sign_in, Patience()
        is_password("", None)  # what the first unknown name would wait for longer
        self._slots, self._waiting = asyncio.Semaphore(_AT_ONCE), 0
        folder = importlib.resources.files("wardround.server.dashboard")
        self._template = (folder / "sign_in.html").read_text("utf-8")

    def add_to(self, app: FastAPI) -> None:
        """Answer ``/sign-in`` and what is below it, ``/sign-out`` and ``/api/me``."""
        app.get("/sign-in")(self.form)
        app.post("/sign-in")(self.take)
        app.get("/sign-in/provider")(self.to_provider)
        app.get(f"/{BACK}")(self.from_provider)
        app.post("/sign-out")(self.out)
        app.get("/api/me")(self.me)

    async def form(self, request: Request) -> Response:
        """The form, or on to the page for who is signed in."""
        then = _wanted(request.query_params.get("then"))
        if request.scope["visitor"]:
            return RedirectResponse(then or "./", 303)
        return self._page(request, then)

    async def take(self, request: Request) -> Response:
        """Name and password from the form."""
        fields = await _fields(request)
        sessions, name = self._sign_in.sessions, fields.get("name", "").strip()[:LONGEST_NAME]
        then = _wanted(fields.get("then"))
        own = cookie(request.scope, cookie_name("wardround-form", self._sign_in))
        if _from_elsewhere(request) or not sessions.is_form_word(own, fields.get("form", "")):
            return self._page(request, then, _STALE, 403)
        if self._waiting >= _MOST_WAITING:
            return self._page(request, then, "Too many people sign in just now; try again.", 503)
        address = self._address(request)
        if (pause := self._patience.ask(name, address)) > 0:
            text = f"Too many tries. Wait {math.ceil(pause)} seconds."
            return self._page(request, then, text, 429)
        account = self._sign_in.accounts.of_password(name)
        if not await self._fits(fields.get("password", ""), account):
            whose = f"'{account.name}'" if account else "an unknown name"
            log.warning("sign-in of %s from %s failed", whose, address)
            return self._page(request, then, _WRONG, 401)
        self._patience.succeeded(name, address)
        assert account is not None
        return self._enter(request, account.name, [account], then)

    async def _fits(self, password: str, account: Account | None) -> bool:
        """Off the loop that serves others, and few at once: each takes 64 MiB."""
        self._waiting += 1
        try:
            async with self._slots:
                kept = account.hash if account else None
                return await asyncio.to_thread(is_password, password, kept)
        finally:
            self._waiting -= 1

    async def to_provider(self, request: Request) -> Response:
        """On to the provider."""
        then = _wanted(request.query_params.get("then"))
        if self._sign_in.provider is None:
            return PlainTextResponse("there is no provider\n", 404)
        try:
            url, token = await asyncio.to_thread(self._sign_in.provider.begin, then)
        except SignInRefused as error:
            return self._page(request, then, f"{error}.", 502, up="../")
        answer = RedirectResponse(url, 303)
        self._set(answer, "wardround-provider", token, 600)
        return answer

    async def from_provider(self, request: Request) -> Response:
        """Back from the provider."""
        if self._sign_in.provider is None:
            return PlainTextResponse("there is no provider\n", 404)
        token = cookie(request.scope, cookie_name("wardround-provider", self._sign_in))
        given = dict(request.query_params)
        try:
            person, then = await asyncio.to_thread(self._sign_in.provider.finish, token, given)
            accounts = self._sign_in.accounts.of_claims(person.values)
            if not accounts:
                raise SignInRefused(
                    f"{person.called} isn't known here; ask the coordinator to be added"
                )
        except SignInRefused as error:
            log.warning("sign-in at the provider from %s failed: %s", self._address(request), error)
            return self._page(request, "", f"{error}.", 403, up="../")
        return self._enter(request, person.called, accounts, then, up="../")

    async def out(self, request: Request) -> Response:
        """End the session."""
        token, fields = session_token(request.scope, self._sign_in), await _fields(request)
        sessions = self._sign_in.sessions
        if _from_elsewhere(request) or not sessions.is_form_word(token, fields.get("form", "")):
            return PlainTextResponse("this form was too old; go back and try again\n", 403)
        sessions.end(token)
        answer = RedirectResponse("sign-in", 303)
        self._forget(answer, "wardround")
        return answer

    async def me(self, request: Request) -> Response:
        """Who is signed in, and the word that the form to sign out needs."""
        visitor = request.scope["visitor"]
        word = self._sign_in.sessions.form_word(session_token(request.scope, self._sign_in))
        roles = sorted(map(str, visitor.roles))
        return JSONResponse({"name": visitor.name, "roles": roles, "form": word})

    def _enter(
        self, request: Request, name: str, accounts: list[Account], then: str, up: str = ""
    ) -> Response:
        """A new session, whatever the browser had before."""
        sessions = self._sign_in.sessions
        sessions.end(session_token(request.scope, self._sign_in))
        answer = RedirectResponse(f"{up}{then}" or "./", 303)
        seconds = round(self._sign_in.settings.session_hours * 3600)
        self._set(answer, "wardround", sessions.begin(name, accounts), seconds)
        self._forget(answer, "wardround-form")
        self._forget(answer, "wardround-provider")
        log.info("%s signed in from %s", name, self._address(request))
        return answer

    def _page(
        self, request: Request, then: str, message: str = "", status: int = 200, up: str = ""
    ) -> Response:
        own = cookie(request.scope, cookie_name("wardround-form", self._sign_in))
        token = own if 20 <= len(own) <= 100 else secrets.token_urlsafe(32)
        accounts = self._sign_in.accounts.now()
        texts = {
            "up": up,
            "message": message,
            "silent": "" if message else "hidden",
            "form": self._sign_in.sessions.form_word(token),
            "then": then,
            "local": "" if any(way == "password" for way, _ in accounts) else "hidden",
            "provider": "" if self._sign_in.provider else "hidden",
            "query": f"?then={then}" if then else "",
        }
        text = re.sub(r"\{\{(\w+)\}\}", lambda found: html.escape(texts[found[1]]), self._template)
        answer = HTMLResponse(text, status)
        self._set(answer, "wardround-form", token, 86_400)
        return answer

    def _address(self, request: Request) -> str:
        """Whence it comes; behind a proxy, what the proxy says (the last of X-Forwarded-For). If it
        says nothing, so that anybody could, tries are still counted by name."""
        settings = self._sign_in.settings
        told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if settings.url and not settings.certificate and _is_address(told):
            return told
        return request.client.host if request.client else ""

    def _set(self, answer: Response, name: str, value: str, seconds: int) -> None:
        answer.set_cookie(
            cookie_name(name, self._sign_in),
            value,
            max_age=seconds,
            path="/",
            secure=self._sign_in.encrypted,
            httponly=True,
            samesite="lax",
        )

    def _forget(self, answer: Response, name: str) -> None:
        self._set(answer, name, "", 0)


async def _fields(request: Request) -> dict[str, str]:
    """A form's fields; nothing of one that is longer than any of ours."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            return {}
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=10))
    except ValueError:
        return {}


def _from_elsewhere(request: Request) -> bool:
    return request.headers.get("sec-fetch-site", "same-origin") != "same-origin"


def _wanted(then: str | None) -> str:
    """A page of ours to go to: the list, or a study."""
    return then if then and _THEN.fullmatch(then) else ""


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False
