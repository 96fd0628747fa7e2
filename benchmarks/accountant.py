"""Our accountant beside dp-accounting's (from both sides) and Opacus' PRV.

    python -m benchmarks.accountant [--quick] [--json PATH]

One Gaussian release (noise multiplier z, Poisson rate q, so many steps) per case. dp-accounting's
privacy loss distributions have a finer grid than its default here: the pessimistic curve (Connect
the Dots) is an upper bound, the optimistic one (privacy buckets, rounded down) a lower bound.

epsilon      ours; dp-accounting's upper bound; PRV's with an error of 0.5 %; limit: the lower bound
milliseconds of one answer, first of its kind, each without its import; dp-accounting with its
             default grid (1e-4)

Ends with an error if an epsilon is below the lower bound, or more than 2 % over the upper one.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable

from dp_accounting.pld import privacy_loss_distribution

from benchmarks.report import Row, arguments, emit
from wardround.common.privacy import accounting
from wardround.common.privacy.accounting import Release

DEFAULT_SPACING = 1e-4
TOLERANCE, SMALLEST = 0.02, 1e-4
"""Relative; and the epsilon that is as good as none."""
PRV_SMALLEST = 0.05
"""Below it, the error that PRV is asked for matters more than the rest."""
LARGE = 700.0
"""From here on dp-accounting's epsilon is a quantile of the loss, because exp(-epsilon) underflows;
its delta is right."""
QUICK = [(1.0, 0.01, 1000), (0.5, 0.1, 300), (4.0, 0.001, 10_000)]
GRID = list(itertools.product((0.5, 1.0, 8.0), (0.001, 0.02, 0.3), (1, 100, 3000)))
DELTAS = (1e-9, 1e-5)


def main() -> None:
    """Run, print, write and judge."""
    options = arguments(__doc__ or "")
    accounting.epsilon([Release(1.0, 0.5)], 1e-5)  # imports
    opacus_prv(1.0, 0.5, 1, 1e-5, 0.1)
    rows, faults = [], []
    for z, q, steps in QUICK if options.quick else GRID:
        for delta in DELTAS:
            found, fault = measure(z, q, steps, delta)
            rows += found
            faults += fault
    emit("Privacy accounting", rows, options.json)
    print(summary(rows))
    if faults:
        raise RuntimeError("; ".join(faults))


def measure(z: float, q: float, steps: int, delta: float) -> tuple[list[Row], list[str]]:
    """The rows of a case, and what is wrong with it."""
    case = f"z={z:g} q={q:g} T={steps} delta={delta:g}"
    ours, own_time = timed(lambda: accounting.epsilon([Release(z, q, steps)], delta))
    default, peer_time = timed(lambda: bound(z, q, steps, delta, DEFAULT_SPACING, True))
    spacing = fine_spacing(z, q, steps)
    upper = min(default, bound(z, q, steps, delta, spacing, True))
    lower = bound(z, q, steps, delta, spacing, False)
    prv, prv_time = timed(lambda: opacus_prv(z, q, steps, delta, 0.005 * ours + 1e-4))
    faults = []
    if ours < lower * (1 - 1e-6):
        faults.append(f"{case}: {ours:.6g} is below the true one, {lower:.6g} or more")
    if ours > upper * (1 + TOLERANCE) and ours > SMALLEST:
        faults.append(f"{case}: {ours:.6g} is too far above {upper:.6g}")
    return [
        Row(case, "epsilon", ours, "lower", {"dp-accounting": upper, "prv": prv}, lower),
        Row(
            case,
            "milliseconds",
            own_time,
            "lower",
            {"dp-accounting": peer_time, "prv": prv_time},
        ),
    ], faults


def timed(call: Callable[[], float | None]) -> tuple[float, float]:
    """The result (nan for None) and its milliseconds."""
    start = time.perf_counter()
    value = call()
    return math.nan if value is None else value, 1e3 * (time.perf_counter() - start)


def fine_spacing(z: float, q: float, steps: int) -> float:
    """A hundredth of one step's deviation over the root of their number, as far as that is
    feasible; never coarser than the default."""
    deviation = q * math.sqrt(math.expm1(min(1 / z**2, 4.0)))
    return min(max(deviation / 100, 2e-6), DEFAULT_SPACING)


def bound(z: float, q: float, steps: int, delta: float, spacing: float, above: bool) -> float:
    """dp-accounting's epsilon from above or from below."""
    step = privacy_loss_distribution.from_gaussian_mechanism(
        z,
        pessimistic_estimate=above,
        value_discretization_interval=spacing,
        sampling_prob=q,
        use_connect_dots=above,
    )
    curve = step.self_compose(steps)
    found = float(curve.get_epsilon_for_delta(delta))
    if found < LARGE:
        return found
    low, high = 0.0, found
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        inside = curve.get_delta_for_epsilon(middle) <= delta
        low, high = (low, middle) if inside else (middle, high)
    return high


def opacus_prv(z: float, q: float, steps: int, delta: float, error: float) -> float | None:
    """PRV's estimate plus the ``error`` it is asked for; None where it can't give one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import PRVAccountant

        accountant = PRVAccountant()
        accountant.history = [(z, q, steps)]
        try:
            return float(accountant.get_epsilon(delta, eps_error=error))
        except (RuntimeError, ValueError):
            return None


def summary(rows: list[Row]) -> str:
    """Largest deviations, and the range of the ratios of times."""
    above, beyond, prv, speed = [0.0], [math.inf], [0.0], []
    for row in rows:
        upper, other = row.peers["dp-accounting"], row.peers["prv"]
        if row.metric == "milliseconds":
            speed.append((upper or 0) / row.value)
        elif row.value > SMALLEST and upper and row.limit:
            above.append(row.value / upper - 1)
            beyond.append(row.value / row.limit - 1)
            if other and math.isfinite(other) and row.value > PRV_SMALLEST:
                prv.append(abs(row.value / other - 1))
    return (
        f"ours over dp-accounting's upper bound: at most {100 * max(above):+.3f} %; over its lower "
        f"bound: at least {100 * min(beyond):+.4f} %; from PRV: at most {100 * max(prv):.2f} %; "
        f"dp-accounting's time over ours: {min(speed):.0f} to {max(speed):.0f}"
    )


if __name__ == "__main__":
    main()
