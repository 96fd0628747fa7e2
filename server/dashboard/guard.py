"""What every request to the dashboard passes: is it a read, or a sign-in, addressed to us?

The answer forbids inline scripts, framing and caching, whatever it is.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wardround.common.address import goes_by

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Refuses what isn't a read addressed to this server; puts the security headers on all.

    posts : paths that take a form: to sign in, and out
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        any_address: bool,
        posts: frozenset[str] = frozenset(),
    ) -> None:
        self._app, self._hosts, self._any_address = app, hosts, any_address
        self._forms = {("POST", path) for path in posts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] != "http":  # no websockets, no lifespan
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        given = [value for key, value in scope["headers"] if key == b"host"]
        if len(given) != 1 or not goes_by(
            given[0].decode("latin-1"), self._hosts, self._any_address
        ):
            return PlainTextResponse(
                "this server doesn't go by that name; a proxy's belongs in "
                "server.dashboard_hosts\n",
                status_code=421,
            )
        if scope["method"] != "GET" and (scope["method"], scope["path"]) not in self._forms:
            allow = {"Allow": "GET"}
            return PlainTextResponse("this page is read-only\n", status_code=405, headers=allow)
        return None
