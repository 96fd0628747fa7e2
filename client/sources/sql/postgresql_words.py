"""What PostgreSQL says, in words of ours: the code, the place in the query, a mend.

``message_primary``, ``detail`` and ``context`` quote cells, and libpq's own texts name users: none
is shown, and none stays in an exception's chain.
"""

from __future__ import annotations

import re

import psycopg
from psycopg import errors

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError

_CODE = re.compile(r"[0-9A-Z]{5}")
_MENDS = (
    ("25006", "it would change something, and only reading is done here; write a SELECT"),
    ("42501", "the role may not read this; GRANT SELECT (and USAGE on its schema) to it"),
    ("42P01", "there is no such table for this role; name it with its schema"),
    ("42703", "there is no such column; the query is this hospital's own: mend it there"),
    ("42601", "it isn't PostgreSQL's SQL; try it with psql first"),
    ("42883", "there is no such function or operator for these types; cast them"),
    ("22", "a value doesn't fit what the query does with it (a cast, a division, a date)"),
    ("40", "others changed the same rows; try it again"),
    ("53", "the server has no room left (connections, memory or disk)"),
    ("57P", "the server is stopped or stopping; try it again"),
    ("08", "the connection broke; try it again"),
    ("42", "the query is this hospital's own: mend it there"),
)
"""By how a code begins; the first that fits."""
_REASONS = (
    ("password authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it wants a password (PGPASSWORD, ~/.pgpass, or in the url)"),
    ("no pg_hba.conf entry", "its pg_hba.conf lets nobody in from here as this user"),
    ("certificate", "its certificate, or this client's, isn't accepted (sslmode, sslrootcert)"),
    ("SSL", "there is no TLS as its url wants it (sslmode)"),
    ("does not exist", "it has no such database or user"),
    ("could not translate host name", "its host's name isn't known here"),
    ("failed to resolve host", "its host's name isn't known here"),
    ("timeout", "nobody answered in 10 s"),
    ("refused", "nobody listens there"),
    ("invalid URI query parameter", "its url has an option that PostgreSQL doesn't know"),
    ("invalid", "its url, or a value in it, isn't one of PostgreSQL's"),
    ("too many", "it has no connection free"),
)
"""By a part of libpq's text, which is only looked at."""


def said(error: psycopg.Error, query: Query, before: int, address: Address) -> DataError:
    """The error of a statement.

    before : characters that were sent before the query's own
    """
    code = error.sqlstate or ""
    if not _CODE.fullmatch(code):
        what = f"the connection broke ({type(error).__name__})"
        return DataError(what, who=address.name, mend="try it again")
    name = type(error).__name__
    place = ""
    position = error.diag.statement_position
    if position and position.isdecimal() and 0 <= (at := int(position) - 1 - before):
        place = f"{query.place(at)}: " if at < len(query.text) else ""
    elif query.name:
        place = f"{query.name}: "
    mend = next(mend for start, mend in (*_MENDS, ("", "")) if code.startswith(start))
    return DataError(f"{place}SQLSTATE {code} ({name})", who=address.name, mend=mend)


def not_reached(error: Exception, address: Address) -> DataError:
    """The error of a connection that couldn't be had."""
    text = str(error)
    code = getattr(error, "sqlstate", None) or ""
    if isinstance(error, errors.InvalidPassword):
        text = _REASONS[0][0]
    reason = next((ours for theirs, ours in _REASONS if theirs in text), "")
    shown = f"SQLSTATE {code}" if _CODE.fullmatch(code) else type(error).__name__
    what = f"can't be reached: {reason} ({shown})" if reason else f"can't be reached ({shown})"
    return DataError(what, who=address.name, mend="" if reason else "try its url with psql")
