"""Passwords and tokens that ``site.toml`` names but doesn't hold: ``env:NAME``, ``file:PATH``."""

from __future__ import annotations

import os
from pathlib import Path

from wardround.common.durable.private import read_private
from wardround.common.errors import DataError, ProvisionError


def read_secret(said: str, base: Path, place: str) -> str:
    """The text that ``said`` names, without the end of its line.

    base : the folder of ``site.toml``; place : the key, for messages

    Raises DataError where it is missing, empty, or others may read it.
    """
    kind, _, name = said.partition(":")
    if kind == "env":
        found = os.environ.get(name, "")
        if not found:
            raise DataError(f"{place}: the environment has no {name}; set it where the client runs")
        return found
    try:
        text = read_private((base / name).resolve(), "write the secret there").decode("utf-8")
    except ProvisionError as error:
        raise DataError(f"{place}: {error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{place}: the file isn't text; write the secret there, alone") from None
    found = text.rstrip("\r\n")
    if not found or "\n" in found or "\r" in found:
        raise DataError(f"{place}: the file holds no secret in one line; write it there, alone")
    return found


def check_pem(said: str | None, base: Path, place: str) -> str | None:
    """The path of a PEM file. Raises DataError where it isn't there."""
    if said is None:
        return None
    path = (base / said).resolve()
    if not path.is_file():
        raise DataError(f"{place}: {path}: there is no such file")
    return str(path)


def check_key(said: str | None, base: Path, place: str) -> str | None:
    """The path of a private key as PEM. Raises DataError where it is missing, or others read it."""
    path = check_pem(said, base, place)
    if path is not None:
        try:
            read_private(Path(path), "put the key there")
        except ProvisionError as error:
            raise DataError(f"{place}: {error}") from None
    return path
