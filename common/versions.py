"""Which version of Wardround this is."""

from __future__ import annotations

import importlib.metadata


def own_version() -> str:
    """The installed version, without a local part."""
    return importlib.metadata.version("wardround").partition("+")[0]
