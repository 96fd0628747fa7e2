"""Which database a URL names, and how messages call it: never with its user's password."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from wardround.common.address import is_loopback
from wardround.common.durable.private import read_private
from wardround.common.errors import DataError, ProvisionError
from wardround.common.text import one_line

Kind = Literal["postgresql", "sqlite", "duckdb", "other"]
FORMS = (
    "'postgresql://USER@HOST/NAME?sslmode=verify-full', 'sqlite:///FILE', 'duckdb:///FILE', "
    "another URL of SQLAlchemy, 'env:NAME' or 'file:PATH'"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+_.-]*)://", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
_FILES: dict[str, Kind] = {"sqlite": "sqlite", "sqlite+pysqlite": "sqlite", "duckdb": "duckdb"}


@dataclass(frozen=True)
class Address:
    """url : for the driver, with its password; file : of SQLite and DuckDB; name : in messages"""

    kind: Kind
    url: str = field(repr=False)
    name: str
    file: Path | None = None


def wrong_form(text: str) -> str:
    """What is wrong with ``url`` as ``site.toml`` has it; '' if nothing is.

    >>> wrong_form("env:EHR_URL"), wrong_form("sqlite:///ehr.sqlite")
    ('', '')
    """
    if text.startswith("env:"):
        named = _NAME.fullmatch(text[4:])
        return "" if named else "after env: stands the name of an environment variable"
    if text.startswith("file:"):
        path = text[5:]
        return "" if path.strip() and "\0" not in path else "after file: stands a path"
    if not _SCHEME.match(text):
        return f"is no URL of a database; give {FORMS}"
    if _secret_in(text):
        return (
            "has a password, which this file is no place for; put the URL into an environment "
            "variable (env:NAME) or a file that only you may read (file:PATH)"
        )
    return ""


def read_address(text: str, base: Path, who: str) -> Address:
    """The database of ``url``. Raises DataError.

    base : the folder of ``site.toml``, which paths are meant from
    who : how messages call the source
    """
    url = _url_of(text, base, who)
    found = _SCHEME.match(url)
    if found is None:
        raise DataError("url is no URL of a database", who=who, mend=f"give {FORMS}")
    scheme = found[1].lower()
    if scheme in _FILES:
        return _of_file(_FILES[scheme], url, base, who)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its text may hold a password
        raise DataError("url can't be read as a URL", who=who, mend=_ESCAPE) from None
    if "@" in f"{host}{parts.path}":
        raise DataError("url has an '@' too many", who=who, mend=_ESCAPE)
    database = one_line(unquote(parts.path.lstrip("/")), 100)
    at = f"'{database}' at {one_line(host, 100) or 'this machine'}{f':{port}' if port else ''}"
    if scheme in _POSTGRESQL:
        _check_way(host, parse_qs(parts.query), who)
        return Address("postgresql", f"postgresql://{url[found.end() :]}", f"{who} ({at})")
    return Address("other", url, f"{who} ({at})")


_ESCAPE = "write a password's '@' as %40, ':' as %3A, '/' as %2F"


def _url_of(text: str, base: Path, who: str) -> str:
    if text.startswith("env:"):
        url = os.environ.get(text[4:], "").strip()
        if not url:
            raise DataError(
                f"the environment variable {text[4:]} isn't set, which its url names",
                who=who,
                mend="set it to the database's URL where the client is started",
            )
        return url
    if text.startswith("file:"):
        path = base / text[5:].strip()
        try:
            data = read_private(path, "write the database's URL into it (chmod 600)")
        except ProvisionError as error:
            raise DataError(str(error), who=who) from None
        try:
            return data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise DataError(f"{path}: is no text; write the URL into it", who=who) from None
    return text


def _of_file(kind: Kind, url: str, base: Path, who: str) -> Address:
    _, _, rest = url.partition("://")
    if not rest.startswith("/") or "?" in rest or rest in ("/", "/:memory:"):
        mend = f"write {kind}:///FILE (from this file's folder), or {kind}:////FOLDER/FILE"
        raise DataError("url names no file", who=who, mend=mend)
    file = (base / unquote(rest[1:])).resolve()
    if not file.is_file():
        raise DataError(f"{file}: there is no such file", who=who, mend="name it in its url")
    return Address(kind, f"{kind}:///{quote(str(file))}", f"{who} ({file.name})", file)


def _secret_in(url: str) -> bool:
    """Whether a URL holds a password; where it can't be taken apart, as if it did."""
    try:
        parts = urlsplit(url)
        secret = any(
            "password" in key.lower() or key.lower() in ("pwd", "token")
            for key in parse_qs(parts.query)
        )
        return secret or parts.password is not None or "@" in f"{parts.hostname or ''}{parts.path}"
    except ValueError:
        return True


def _check_way(host: str, options: dict[str, list[str]], who: str) -> None:
    """Raise DataError where nothing is said of TLS on a way that others may see."""
    host = host or options.get("host", [""])[0]
    local = not host or host.startswith("/") or is_loopback(host)
    if not local and "sslmode" not in options:
        raise DataError(
            f"'{one_line(host, 100)}' is another machine, and its url says nothing of TLS",
            who=who,
            mend="add '?sslmode=verify-full' (or 'disable', where the way there is your own)",
        )
