"""Passwords: argon2id, with the parameters of RFC 9106's second choice (64 MiB, three passes)."""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from wardround.common.errors import ConfigError

SHORTEST, LONGEST = 12, 200
_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """What is kept of a password. Raises ConfigError for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(
            f"the password has {len(password)} characters; choose {SHORTEST} to {LONGEST}, such as "
            "five words"
        )
    return _hasher.hash(password)


def is_password(password: str, kept: str | None) -> bool:
    """Whether it is the one that ``kept`` was made of; takes as long, and is False, where there is
    none (``None``)."""
    try:
        return _hasher.verify(kept or _nobodys(), password[: LONGEST + 1]) and kept is not None
    except (VerificationError, InvalidHashError):
        return False


def looks_hashed(text: object) -> bool:
    """Whether a text is what ``hash_password`` gives."""
    return isinstance(text, str) and text.startswith("$argon2id$") and len(text) < 300


@cache
def _nobodys() -> str:
    """The hash of what nobody can type."""
    return _hasher.hash("\x00" * (LONGEST + 50))
