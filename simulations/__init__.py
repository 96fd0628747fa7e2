"""Many clients on one machine, and the command line. May import every other package.

From Python: ``from wardround.simulations import simulate``. What computes is imported when it is
first asked for: ``wardround client stop`` must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import wardround.common  # noqa: F401  (switches telemetry off before flwr is imported)

if TYPE_CHECKING:
    from wardround.common.config import Config, load_config, parse_config
    from wardround.simulations.runner import Result, simulate

__all__ = ["Config", "Result", "load_config", "parse_config", "simulate"]
_PLACES = {
    "Config": "wardround.common.config",
    "load_config": "wardround.common.config",
    "parse_config": "wardround.common.config",
    "Result": "wardround.simulations.runner",
    "simulate": "wardround.simulations.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
