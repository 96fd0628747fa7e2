"""Who is signed in: a random token in the browser's cookie, its hash here, in memory only.

A restart signs everybody out. A session is of an account as it was: it ends with its time, with a
new password, and with the account. Roles are looked up at each request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wardround.server.dashboard.sign_in.accounts import Account, LiveAccounts, Way
from wardround.server.dashboard.sign_in.roles import Visitor

MOST, MOST_EACH = 2000, 20


@dataclass(frozen=True)
class _Session:
    name: str
    marks: tuple[tuple[Way, str, str], ...]
    until: float


class Sessions:
    """Thread-safe; the oldest session goes when there are too many of one person, or of all.

    Parameters
    ----------
    lasts_s : from signing in, however busy it is
    clock : seconds that never go back
    """

    def __init__(
        self,
        accounts: LiveAccounts,
        lasts_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts, self._lasts_s, self._clock = accounts, lasts_s, clock
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._secret = secrets.token_bytes(32)

    def begin(self, name: str, accounts: Iterable[Account]) -> str:
        """A new session's token, for the cookie of who is to be called ``name``."""
        token = secrets.token_urlsafe(32)
        marks = tuple((one.way, one.name, one.mark) for one in accounts)
        with self._lock:
            own = [key for key, one in self._sessions.items() if one.name == name]
            for key in own[: max(0, len(own) - MOST_EACH + 1)]:
                del self._sessions[key]
            while len(self._sessions) >= MOST:
                self._sessions.popitem(last=False)
            self._sessions[_hashed(token)] = _Session(name, marks, self._clock() + self._lasts_s)
        return token

    def visitor(self, token: str) -> Visitor | None:
        """Whose session it is, with today's roles; None: nobody's."""
        with self._lock:
            key = _hashed(token)
            session = self._sessions.get(key)
            if session is None:
                return None
            accounts = self._accounts.now()
            found = [(accounts.get((way, name)), mark) for way, name, mark in session.marks]
            left = [one for one, mark in found if one is not None and one.mark == mark]
            if self._clock() >= session.until or not left:
                del self._sessions[key]
                return None
            return Visitor(session.name, frozenset(role for one in left for role in one.roles))

    def end(self, token: str) -> None:
        """Sign out; a token that is nobody's is no error."""
        with self._lock:
            self._sessions.pop(_hashed(token), None)

    def form_word(self, token: str) -> str:
        """What a form must send back with the cookie ``token``: nobody can make it from outside."""
        return hmac.new(self._secret, token.encode(), hashlib.sha256).hexdigest()

    def is_form_word(self, token: str, word: str) -> bool:
        """Whether a form was ours, for this cookie."""
        own = self.form_word(token).encode()
        return bool(token) and hmac.compare_digest(own, word.encode("utf-8", "replace"))


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
