"""What ``site.toml`` says of privacy, held against a plan: delta, unit, whose noise, epsilon.

A limit on epsilon means something only beside the delta at which it is counted, the unit that it
protects and the party that makes the noise. (epsilon, delta) with a delta of 0.9 forbids nothing;
a unit of one example protects no patient with many; and noise that the server adds protects from
nobody who runs the server: against it epsilon is infinite, unless the hospital says that it trusts
the server (``trust_server``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

from wardround.client.site.plan_checks import planned_epsilon
from wardround.common.config.covers import covered
from wardround.common.config.load import Config
from wardround.common.errors import PolicyRefused
from wardround.common.manifest.manifest import Manifest
from wardround.common.settings import PrivacyTable

Unit = Literal["example", "patient", "hospital"]
Noise = Literal["local", "distributed", "central"]
_OF_RUNS = ("training", "preparation", "evaluation")
"""What a run that trains can cover; any other study's sums are all noised."""


class PrivacyLimits(Protocol):
    """What this module asks of ``SitePolicy``."""

    @property
    def max_epsilon_per_run(self) -> float | None: ...
    @property
    def max_epsilon_total(self) -> float | None: ...
    @property
    def max_delta(self) -> float: ...
    @property
    def privacy_units(self) -> Sequence[str]: ...
    @property
    def noise(self) -> Sequence[str]: ...
    @property
    def privacy_covers(self) -> Sequence[str]: ...
    @property
    def trust_server(self) -> bool: ...
    def refused(self, key: str, message: str) -> PolicyRefused:
        """The error for a key."""


def check_privacy(
    limits: PrivacyLimits, manifest: Manifest, config: Config, units: int | None
) -> None:
    """Raise PolicyRefused, naming the key and both values, unless the limits allow the plan.

    Parameters
    ----------
    config : this hospital's settings; its ``privacy`` is the plan's
    units : of this hospital's training part; None: as many as would cost most

    Epsilon is the plan's at the plan's delta. That is at most ``max_delta``, and epsilon falls as
    delta grows, so it is never below what the run costs at the hospital's own delta.
    """
    table = config.privacy
    if table.enabled:
        if table.delta > limits.max_delta:
            raise limits.refused(
                "max_delta",
                f"this hospital allows delta {limits.max_delta:g}, the run has {table.delta:g}",
            )
        _allowed(limits, "privacy_units", "unit", table.unit, limits.privacy_units)
        _allowed(limits, "noise", "noise", table.noise, limits.noise)
        _check_covered(limits, config)
    for key in ("max_epsilon_per_run", "max_epsilon_total"):
        limit: float | None = getattr(limits, key)
        if limit is None:
            continue
        planned = (
            math.inf if _by_server(limits, table) else planned_epsilon(manifest, config, units)
        )
        if planned > limit:
            raise limits.refused(
                key, f"this hospital allows epsilon {limit:g}, the run {_plans(table, planned)}"
            )


def _allowed(
    limits: PrivacyLimits, key: str, what: str, value: str | None, allowed: Sequence[str]
) -> None:
    if value not in allowed:
        raise limits.refused(
            key,
            f"this hospital allows {', '.join(allowed) or 'none'}, the run's {what} is '{value}'",
        )


def _check_covered(limits: PrivacyLimits, config: Config) -> None:
    """Raise PolicyRefused for sums that the plan leaves exact and this hospital wants noised."""
    found = covered(config)
    needed = [one for one in limits.privacy_covers if one in _OF_RUNS]
    lacking = [one for one in needed if config.procedure.trains and one not in found]
    if lacking:
        raise limits.refused(
            "privacy_covers",
            f"this hospital asks that privacy covers {', '.join(needed)}, the run's covers "
            f"{', '.join(found)}",
        )


def _by_server(limits: PrivacyLimits, table: PrivacyTable) -> bool:
    """Whether nothing but the server's own noise protects from the server."""
    return table.enabled and table.noise == "central" and not limits.trust_server


def _plans(table: PrivacyTable, planned: float) -> str:
    if not table.enabled:
        return "has no privacy"
    if math.isinf(planned):
        return (
            "has noise of the server's only, which doesn't protect from the server (if it is "
            "trusted: trust_server = true)"
        )
    return f"plans {planned:.4g}"
