"""Where a prediction begins to need somebody: thresholds, and what is said of one.

They stand in the model's ``thresholds.json``, or in the hospital's calibration, whose own are for
the corrected probability: then the model's, which are for another one, aren't used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wardround.common.errors import ConfigError

USUAL = "youden"


@dataclass(frozen=True)
class Limits:
    """From which probability on a card warns, and from which on it is critical; None: never.

    rule : which the first is, as its list calls it
    """

    warning: float | None = None
    critical: float | None = None
    rule: str = ""

    def indicator(self, probability: float) -> str:
        """As CDS Hooks has them: 'info', 'warning', 'critical'."""
        if self.critical is not None and probability >= self.critical:
            return "critical"
        return "warning" if self.warning is not None and probability >= self.warning else "info"

    def words(self, probability: float) -> str:
        """What is said of a prediction; '' without a threshold."""
        if self.warning is None:
            return ""
        side = "at or above" if probability >= self.warning else "below"
        return f"{side} the threshold {self.warning:.4g} ({self.rule})"


def chosen(thresholds: Sequence[dict[str, Any]], warning: str, critical: str) -> Limits:
    """Limits by their rules ('youden', 'sensitivity=0.9') or as numbers ('0.3').

    warning : '' for the usual one, where there is one
    critical : '' for none

    Raises ConfigError for a rule that isn't among them, and for what is no probability.
    """
    known = {str(one.get("rule")): one.get("threshold") for one in thresholds}
    rule = warning or (USUAL if USUAL in known else "")
    first = _value("--threshold", rule, known) if rule else None
    second = _value("--critical", critical, known) if critical else None
    if second is not None and (first is None or second < first):
        raise ConfigError("--critical: is below --threshold, or there is none; name a higher one")
    return Limits(first, second, rule)


def _value(option: str, rule: str, known: dict[str, Any]) -> float:
    found = known.get(rule, rule)
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        rules = ", ".join(known) or "none"
        raise ConfigError(
            f"{option} '{rule[:40]}': is no probability and no rule of the model's thresholds",
            mend=f"there are: {rules}",
        )
    return number
