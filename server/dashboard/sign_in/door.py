"""Every request that isn't for the sign-in itself passes here: whose is it?

Closed by default: a path that isn't named as public needs a session. ``scope['visitor']`` is who
looks, for the rest of the application.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from wardround.server.dashboard.sign_in.roles import ANYBODY, Visitor
from wardround.server.dashboard.sign_in.setup import SignIn

_HEAVY = 8192


class Door:
    """Tells who looks, and sends strangers to the sign-in.

    Parameters
    ----------
    sign_in : None: nobody has to, and everybody sees all
    public : paths that strangers get
    """

    def __init__(self, app: ASGIApp, sign_in: SignIn | None, public: frozenset[str]) -> None:
        self._app, self._sign_in, self._public = app, sign_in, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that may be answered; refuse the others."""
        scope["still"] = lambda: True
        if self._sign_in is None:
            scope["visitor"] = ANYBODY
        else:
            token = session_token(scope, self._sign_in)
            scope["visitor"] = visitor = self._sign_in.sessions.visitor(token)
            scope["still"] = self._still(token, visitor)
            if refusal := self._refusal(scope, self._sign_in, visitor):
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _still(self, token: str, visitor: Visitor | None) -> Callable[[], bool]:
        sessions = self._sign_in.sessions if self._sign_in else None
        return lambda: sessions is not None and sessions.visitor(token) == visitor

    def _refusal(self, scope: Scope, sign_in: SignIn, visitor: Visitor | None) -> Response | None:
        path = str(scope["path"])
        if path == "/metrics":
            if _bears(scope, sign_in.metrics_token) or (visitor and visitor.sees_all):
                return None
            mend = "send the word of server.dashboard.metrics_token as bearer token\n"
            return PlainTextResponse(mend, 401, headers={"WWW-Authenticate": "Bearer"})
        if visitor or path in self._public:
            return None
        if path.startswith("/api/"):
            return JSONResponse({"error": "sign in first"}, 401)
        then = path.removeprefix("/")
        return RedirectResponse(f"{'../' * then.count('/')}sign-in?then={_safe(then)}", 303)


def _safe(path: str) -> str:
    return path if all(c.isascii() and (c.isalnum() or c in "/") for c in path) else ""


def cookie_name(base: str, sign_in: SignIn) -> str:
    """With TLS a name that browsers hold to this very host, path and encryption."""
    return f"__Host-{base}" if sign_in.encrypted else base


def cookie(scope: Scope, name: str) -> str:
    """A cookie's value, '' where there is none."""
    raw = b"; ".join(value for key, value in scope["headers"] if key == b"cookie")
    return cookie_parser(raw[:_HEAVY].decode("latin-1")).get(name, "")


def session_token(scope: Scope, sign_in: SignIn) -> str:
    """The session's token that the browser sent."""
    return cookie(scope, cookie_name("wardround", sign_in))


def _bears(scope: Scope, token: str) -> bool:
    given = [value for key, value in scope["headers"] if key == b"authorization"]
    wanted = f"Bearer {token}".encode()
    return bool(token) and len(given) == 1 and hmac.compare_digest(given[0], wanted)
