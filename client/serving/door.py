"""Who is let in: whoever has a token of the file; certificates TLS has asked for already."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from wardround.common.durable.private import read_private
from wardround.common.errors import ConfigError

_LEAST, _MOST = 20, 500
_MEND = "write one into it: openssl rand -hex 32"
_SCHEME = b"bearer "


class Door:
    """Compares a bearer token with those that are known, in a time that says nothing of them.

    tokens : none: everybody is let in
    """

    def __init__(self, tokens: Iterable[bytes] = ()) -> None:
        self._known = [hashlib.sha256(one).digest() for one in tokens]

    @classmethod
    def of_file(cls, path: Path) -> Door:
        """The tokens of a file, one a line: two of them while one is replaced by the other.

        Raises ProvisionError if others on this machine may read it, ConfigError for no token, and
        for one that could be guessed.
        """
        lines = [line.strip() for line in read_private(path, _MEND).splitlines()]
        tokens = [line for line in lines if line and not line.startswith(b"#")]
        if not tokens:
            raise ConfigError(f"--token-file {path}: there is no token in it", mend=_MEND)
        for one in tokens:
            if not _LEAST <= len(one) <= _MOST or not one.isascii() or b" " in one:
                raise ConfigError(
                    f"--token-file {path}: a token has {_LEAST} to {_MOST} characters, without "
                    "spaces",
                    mend=_MEND,
                )
        return cls(tokens)

    @property
    def asks(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._known)

    def lets_in(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers may go on."""
        if not self._known:
            return True
        given = [value for key, value in headers if key == b"authorization"]
        if len(given) != 1 or given[0][: len(_SCHEME)].lower() != _SCHEME:
            return False
        found = hashlib.sha256(given[0][len(_SCHEME) :].strip()).digest()
        # all are compared, whichever fits
        return sum(hmac.compare_digest(found, one) for one in self._known) > 0
