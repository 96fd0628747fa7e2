"""The researcher's side: studies are made, signed, submitted, watched and fetched.

From Python: ``from wardround.client.researcher import Network``. It never sees a hospital: all that
it knows is what the server says to its role. What comes is believed as far as the server's key,
which the network's signed description names, has signed it.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wardround.common.errors import WardroundError
from wardround.common.transport.only_tls13 import hold_to_tls13

if TYPE_CHECKING:
    from wardround.client.researcher.network import Network

__all__ = ["Network"]


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: the command line answers --help without it."""
    if name != "Network":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with suppress(WardroundError):  # gRPC is there already: ``Network`` goes on with it
        hold_to_tls13()
    return importlib.import_module("wardround.client.researcher.network").Network


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
