"""What the board keeps of what it is told: bounded rows, harmless texts, finite figures."""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from wardround.common.figures.figure import is_number
from wardround.common.run.report.grouping import contributed
from wardround.common.text import one_line
from wardround.server.observer import Phase

NEVER_SEEN, CONNECTED, AWAY = "never seen", "connected", "away"
REFUSES, REFUSED, REVOKED = "refuses the run", "refused", "revoked"
WITHDREW = "withdrew"
HIDDEN = "hidden"
SECONDS_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of the histogram of round times, in seconds; a last bucket is unbounded."""
STEPS = frozenset("connect manifest describe statistics layout keys train unmask evaluate".split())
"""Where something may be refused; anything else counts as 'other'."""
_GRPC_PEER = re.compile(r"ipv[46]:([0-9A-Fa-f.:%BD]{1,80})")
_CHAIN = {"seq", "time", "event", "prev", "hash"}
_MOST_FIGURES, _MOST_SPLITS, _MOST_FIELDS = 64, 8, 24


@dataclass(frozen=True)
class RunFacts:
    """What doesn't change while a run goes on; None: not known, or as it was told before.

    run : its name
    rounds : how many are planned
    hospitals : the roster's names, shown as 'never seen' until they come
    hidden : secure aggregation is on: single hospitals' figures can't be known
    primary : the metric that the page shows first
    titles : what hospitals are called, by name, where that is something else
    """

    run: str | None = None
    rounds: int | None = None
    hospitals: Collection[str] = ()
    hidden: bool | None = None
    primary: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Those that are known, as the run's section of a snapshot has them."""
        known = {"name": self.run, "rounds": self.rounds}
        known |= {"hidden": self.hidden, "primary": self.primary}
        return {key: value for key, value in known.items() if value is not None}


@dataclass
class HospitalRow:
    """One row of the dashboard's table; times are seconds since 1970.

    title : what it is called, where that is something else than its name
    up : it has a connection, whatever its state: one that refuses the run stays connected
    """

    title: str = ""
    state: str = NEVER_SEEN
    up: bool = False
    reason: str = ""
    address: str = ""
    version: str = ""
    since: float | None = None
    seen: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    rounds: int = 0
    refusals: int = 0
    step: str = ""
    epsilon: float | None = None
    epsilon_limit: float | None = None
    delta: float | None = None
    private: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    figures: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def claim(self, claim: Mapping[str, Any]) -> None:
        """It says of its privacy budget."""
        self.private, self.delta = True, claim.get("delta")
        self.epsilon, self.epsilon_limit = claim.get("epsilon"), claim.get("limit")

    def shown(self, hidden: bool) -> dict[str, Any]:
        """As a display may have it; ``hidden``: without its figures."""
        figures = HIDDEN if hidden else self.figures
        return vars(self) | {"sizes": dict(self.sizes), "figures": figures}

    @property
    def idle(self) -> str:
        """What it does in a round that it isn't asked in: nothing where it couldn't be."""
        if self.state != CONNECTED:
            return ""
        return "not drawn" if self.sizes.get("train", 1) else "evaluates only"


@dataclass
class Tally:
    """Counts since this process began, none of them cut short.

    rounds : by outcome, 'committed', 'lost' (the model stayed as it was) or 'failed' (attempts)
    refusals : by hospital ('other' for whoever isn't one of the federation) and step
    seconds : rounds per bucket of SECONDS_BOUNDS, and one more for longer ones; with their sum
    """

    rounds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BOUNDS) + 1))
    seconds_sum: float = 0.0

    def add_seconds(self, seconds: float) -> None:
        """A committed round's time."""
        self.seconds[bisect.bisect_left(SECONDS_BOUNDS, seconds)] += 1
        self.seconds_sum += seconds


def next_phase(now: Phase, step: str) -> Phase:
    """The phase that a step of a round shows; evaluating also unmasks, and stays so."""
    if step == "evaluate":
        return Phase.EVALUATING
    if step == "unmask" and now in (Phase.TRAINING, Phase.COLLECTING):
        return Phase.UNMASKING
    return Phase.COLLECTING if step == "train" and now == Phase.TRAINING else now


def run_row(now: float) -> dict[str, Any]:
    """The run before anything happened; counts are of the present round's attempt."""
    return {
        "name": "",
        "rounds": 0,
        "hidden": False,
        "primary": "",
        "status": "running",
        "started": now,
        "ended": None,
        "round": 0,
        "attempt": 0,
        "phase": Phase.WAITING,
        "phase_since": now,
        "detail": "",
        "expected": 0,
        "answered": 0,
        "not_accepted": 0,
        "evaluated": 0,
        "refusals": 0,
        "last_failure": None,
        "warnings": [],
    }


def curve_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the curves need of a line of ``metrics.jsonl``; undefined figures are None."""
    seconds = row.get("seconds") or {}
    return {
        "round": row["round"],
        "attempt": row.get("attempt", 1),
        "cohort": len(row.get("cohort", ())),
        "accepted": contributed(row),
        "refused": len(row.get("refused", ())),
        "train_loss": _finite(row.get("train_loss")),
        "overall": figure_table(_standing(row)),
        "means": sorted({name for part in (row.get("within") or {}).values() for name in part}),
        "bytes_in": row.get("bytes_up", 0),
        "bytes_out": row.get("bytes_down", 0),
        "seconds": _finite(seconds.get("total")),
    }


def _standing(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures by split, those that are each hospital's own affair as the mean of the hospitals'."""
    within = row.get("within") or {}
    return {
        split: part
        | {name: one["mean"] for name, one in (within.get(split) or {}).items()}
        | {f"{name}_error_bound": one["bound"] for name, one in (within.get(split) or {}).items()}
        for split, part in (row.get("overall") or {}).items()
    }


def refusal_row(name: str, step: str, reason: str) -> dict[str, str]:
    """Who was refused, in which step and why."""
    return {"hospital": short(name), "step": short(step), "reason": one_line(reason)}


def audit_row(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the audit log for display; long digests are cut."""
    told = ((k, v) for k, v in line.items() if k not in _CHAIN and v is not None)
    detail = ", ".join(f"{short(key)} {_shown(value)}" for key, value in islice(told, _MOST_FIELDS))
    return {
        "seq": line.get("seq"),
        "time": short(line.get("time")),
        "event": short(line.get("event")),
        "detail": one_line(detail or "-"),
        "hash": short(line.get("hash"))[:12],
    }


def figure_table(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Figures by split and metric, bounded in number; undefined ones are None."""
    return {
        short(split): {
            short(name): _finite(value) for name, value in islice(part.items(), _MOST_FIGURES)
        }
        for split, part in islice(splits.items(), _MOST_SPLITS)
    }


def _finite(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def short(value: object) -> str:
    """A name or other short text as one harmless line."""
    return one_line(str(value), 100) if value not in (None, "") else ""


def peer(address: str) -> str:
    """An address as people write it; gRPC says 'ipv6:%5B::1%5D:4411' for '[::1]:4411'."""
    found = _GRPC_PEER.fullmatch(address)
    return short(found[1].replace("%5B", "[").replace("%5D", "]") if found else address)


def _shown(value: object) -> str:
    """A field of an audit line; long hexadecimal strings, such as digests, are cut."""
    if isinstance(value, list | tuple | dict):
        return f"({len(value)} entries)"
    text = short(value) or "-"
    return text[:12] + "…" if len(text) > 40 and text.isalnum() else text
