"""Several identifiers of a row as one key: equal only where each of them is."""

from __future__ import annotations

from collections.abc import Sequence

_LENGTH_BYTES = 2


def joined(forms: Sequence[bytes | None]) -> bytes | None:
    """The key of a row's normal forms, in the order of their columns' names; None if one lacks.

    Each form stands behind its length, so that no two rows of different forms have one key,
    wherever one form ends and the next begins.

    >>> joined([b"anna", b"1970-01-31"]) == joined([b"anna1", b"970-01-31"])
    False
    """
    return of_framed([None if form is None else framed(form) for form in forms])


def framed(form: bytes) -> bytes:
    """A form behind its length (2 bytes, big-endian)."""
    return len(form).to_bytes(_LENGTH_BYTES, "big") + form


def of_framed(parts: Sequence[bytes | None]) -> bytes | None:
    """``joined`` of forms that are framed already."""
    return None if None in parts else b"".join(parts)  # type: ignore[arg-type]
