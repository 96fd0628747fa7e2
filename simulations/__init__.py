"""Many clients on one machine. May import every other side.

From Python: ``from wardround.simulations import simulate, sweep, tune``. What computes is imported
when it is first asked for: ``wardround client stop`` must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import wardround.common  # noqa: F401  (switches telemetry off before flwr is imported)

if TYPE_CHECKING:
    from wardround.common.config.load import Config, load_config, parse_config
    from wardround.common.predict.load import load_model
    from wardround.simulations.python.plan import PrivacyPlan, privacy_plan
    from wardround.simulations.python.simulate import simulate
    from wardround.simulations.run.analyse import Analysis, analyse
    from wardround.simulations.run.result import Result
    from wardround.simulations.search.space import Choice, Range
    from wardround.simulations.search.sweep import SweepResult, sweep
    from wardround.simulations.search.tune import TuneResult, tune

__all__ = [
    "Analysis",
    "Choice",
    "Config",
    "PrivacyPlan",
    "Range",
    "Result",
    "SweepResult",
    "TuneResult",
    "analyse",
    "load_config",
    "load_model",
    "parse_config",
    "privacy_plan",
    "simulate",
    "sweep",
    "tune",
]
_BROUGHT = {"plotly", "jinja2", "markupsafe", "sklearn"}
"""What the extra ``simulate`` brings."""
_PLACES = {
    "Config": "wardround.common.config.load",
    "load_config": "wardround.common.config.load",
    "parse_config": "wardround.common.config.load",
    "Analysis": "wardround.simulations.run.analyse",
    "analyse": "wardround.simulations.run.analyse",
    "Result": "wardround.simulations.run.result",
    "simulate": "wardround.simulations.python.simulate",
    "PrivacyPlan": "wardround.simulations.python.plan",
    "privacy_plan": "wardround.simulations.python.plan",
    "load_model": "wardround.common.predict.load",
    "Choice": "wardround.simulations.search.space",
    "Range": "wardround.simulations.search.space",
    "SweepResult": "wardround.simulations.search.sweep",
    "sweep": "wardround.simulations.search.sweep",
    "TuneResult": "wardround.simulations.search.tune",
    "tune": "wardround.simulations.search.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _BROUGHT:
            raise
        text = f"simulations need {missing}: pip install 'wardround[simulate]'"
        raise ModuleNotFoundError(text, name=error.name) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
