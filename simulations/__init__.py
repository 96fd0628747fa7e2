"""Many clients on one machine, and the command line. May import every other package.

From Python: ``from wardround.simulations import simulate``.
"""

import wardround.common  # noqa: F401  (switches telemetry off before flwr is imported)
from wardround.common.config import Config, load_config, parse_config
from wardround.simulations.runner import Result, simulate

__all__ = ["Config", "Result", "load_config", "parse_config", "simulate"]
