"""Federated learning for hospitals: the patients stay, the model travels.

Imports nothing: what there is stands in ``client``, ``common``, ``server`` and ``simulations``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    """``__version__`` is looked up when it is asked for: no command waits for it."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("wardround")
