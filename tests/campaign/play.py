"""Plays a case as a user would, follows the advice of every refusal, and says what is wrong."""

from __future__ import annotations

import os
import re
import signal
import tomllib
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from tests.campaign.draw import Case
from tests.campaign.looks import EARLIER, POOLED
from tests.unlike import Consortium
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import WardroundError
from wardround.common.flower.arrays import Arrays
from wardround.common.model.saved import MODEL
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.simulations import Result, simulate

WITHIN_S = 120
"""No run of so little data takes longer; with others on the machine, as many times that as there
are."""
CONSORTIUM_LR = 0.05
_INSIDE = re.compile(r"\b\w+ at \w+\.py:\d+")
ADVICE = re.compile(
    r"\bset ([a-z_]+(?:\.[a-z_]+)+) (?:= |to at most |to |at most )('[^']*'|[\w.\[\]\"*-]+)"
)
_LEFT_OUT = re.compile(r"(\d+) (?:rows?|images?|texts?|files?|volumes?) (?:was|were) left out")
_ALL_LEFT_OUT = re.compile(r"(\d+) rows? (?:was|were) left out")
_MOST_REFUSALS = 14
_NEVER_ADVISED = ("federation.runs", "data.path")
"""Where things are, which no advice knows."""


class TooLong(BaseException):
    """A run passed its limit. (Not an Exception: nothing may take it for a failed reply.)"""


@dataclass
class Words(Observer):
    """Everything that a run says; may kill its process at a point."""

    said: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    kill_at: tuple[str, int] | None = None

    def members(self, members: Sequence[Member], refused: Sequence[dict[str, str]]) -> None:
        self.names |= {member.name for member in members}
        self.sizes |= {member.name: sum(member.sizes.values()) for member in members}
        self.said += [line for member in members for line in member.warnings]
        self.said += [f"{one['hospital']}: {one['reason']}" for one in refused]

    def warnings(self, lines: Sequence[str]) -> None:
        self.said += lines

    def progress(self, text: str) -> None:
        self.said.append(text)

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        if reason is not None:
            self.said.append(f"{hospital}: {step}: {reason}")

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        self.said.append(reason)

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        self._kill("started", server_round)

    def round_committed(self, row: dict[str, Any]) -> None:
        self._kill("committed", row["round"])

    def _kill(self, what: str, server_round: int) -> None:
        if self.kill_at == (what, server_round):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Played:
    """A finished run of a case, or why there is none, and what was wrong on the way.

    case : with the settings that led to a run
    refused : messages that were followed
    """

    case: Case
    result: Result | None
    words: Words
    faults: list[str]
    refused: list[str]


def play(case: Case, consortium: Consortium, runs: Path) -> Played:
    """Run the case; drop or change what is refused as the message says, until it runs."""
    faults: list[str] = []
    refused: list[str] = []
    tried: list[Case] = []
    while True:
        words = Words()
        try:
            result = run(case, consortium, runs, words)
        except WardroundError as error:
            refused.append(str(error))
            tried.append(case)
            offered = follow(case, str(error), words.said)
            changed = next((one for one in offered if one not in tried), None)
            if changed is None or len(refused) > _MOST_REFUSALS:
                faults.append(f"names no key to change, or its advice leads nowhere: {error}")
                return Played(case, None, words, faults, refused)
            case = changed
            continue
        except TooLong:
            return Played(case, None, words, [*faults, f"not over after {WITHIN_S} s"], refused)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            fault = f"{type(error).__name__}: {error}\n{where}"
            return Played(case, None, words, [*faults, fault], refused)
        faults += unsound(result, words, consortium, case)
        return Played(case, result, words, faults, refused)


def run(
    case: Case,
    consortium: Consortium,
    runs: Path,
    words: Words,
    resume: Path | None = None,
    **more: Any,
) -> Result:
    """One run, within the limit; numpy's warnings are errors."""
    settings = {"secure_aggregation.enabled": case.masked} | case.settings | more
    if settings.get("data.path") == POOLED:
        consortium.pooled()
    if settings.get("federation.initial") == EARLIER:
        settings["federation.initial"] = str(earlier(consortium))
    overrides = [f"{key}={toml(value)}" for key, value in settings.items() if value is not None]
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    with warnings.catch_warnings(), limit(WITHIN_S * crowd):
        warnings.simplefilter("error", RuntimeWarning)
        if resume is not None:
            return simulate(resume=resume, observer=words)
        return simulate(consortium.config(*overrides, runs=runs), observer=words)


def earlier(consortium: Consortium) -> Path:
    """The model file of a run with the consortium's own settings; run once."""
    runs = consortium.folder / "earlier"
    if not runs.exists():
        plain = ("secure_aggregation.enabled=false", "federation.rounds=1")
        simulate(consortium.config(*plain, runs=runs))
    (run,) = runs.iterdir()
    return run / "model" / MODEL


def follow(case: Case, message: str, said: Sequence[str] = ()) -> Iterator[Case]:
    """The case with what a refusal names changed as it says, or else left out: one after the other
    of what it offers. Nothing if it names nothing that the case sets.

    said : what was said before, which may explain it
    """
    settings = dict(case.settings)

    def without(key: str) -> Case:
        return replace(case, settings={k: v for k, v in settings.items() if k != key})

    if "set either epsilon" in message:
        kept = {k: v for k, v in settings.items() if k != "privacy.noise_multiplier"}
        for epsilon in (30.0, settings.get("privacy.epsilon_limit")):
            if epsilon is not None:
                yield replace(case, settings=kept | {"privacy.epsilon": epsilon})
    if "has no effect" in message:
        yield from (without(key) for key in settings if f"{key}: has no effect" in message)
        for table in re.findall(r"(\w+\.\w+): has no effect", message):  # of a table in a table
            kept = {k: v for k, v in settings.items() if not k.startswith(f"{table}.")}
            if kept != settings:
                yield replace(case, settings=kept)
    if "lower training.lr" in message:
        if any("set task.normalise = 'federated'" in line for line in said):
            yield replace(case, settings=settings | {"task.normalise": "federated"})
        lower = settings.get("training.lr", CONSORTIUM_LR) / 10
        if lower > 1e-7:
            yield replace(case, settings=settings | {"training.lr": lower})
    for key in re.findall(r"\blower ([a-z_]+\.[a-z_]+)", message):
        if named := re.search(rf"{re.escape(key)} = (\d+)", message):
            yield replace(case, settings=settings | {key: int(named[1]) // 2})
    if "set privacy.epsilon below" in message and "privacy.epsilon" in settings:
        yield replace(
            case, settings=settings | {"privacy.epsilon": settings["privacy.epsilon"] / 2}
        )
    for table in re.findall(r"\[(\w+)\] (?:beside|out)", message):
        kept = {k: v for k, v in settings.items() if not k.startswith(f"{table}.")}
        yield replace(case, settings=kept)
    for key, value in ADVICE.findall(message):
        if key == "secure_aggregation.enabled":
            yield replace(case, masked=bool(value_of(value)))
        elif not key.startswith(_NEVER_ADVISED):
            yield replace(case, settings=settings | {key: value_of(value)})
    for key in settings:
        if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w])", message):
            yield without(key)
    for key in settings:  # a table's own message says the table, then the key
        table, _, last = key.rpartition(".")
        if re.search(rf"\b{re.escape(last)}\b", message) and table.split(".")[0] in message:
            yield without(key)
    strategy = settings.get("strategy.name")
    if strategy is not None and f"'{strategy}'" in message:
        options = [key for key in settings if key.startswith("strategy.")]
        yield replace(case, settings={k: v for k, v in settings.items() if k not in options})


def unsound(result: Result, words: Words, consortium: Consortium, case: Case) -> list[str]:
    """What no finished run may show."""
    faults = []
    told = "\n".join(words.said)
    faults += [f"a place in the code for a reason: {line}" for line in words.said if inside(line)]
    known = words.names | {row["hospital"] for row in result.comparison}
    if "data.path" in case.settings:  # one file, whose rows are whose the partition says
        faults += _all_rows(words, consortium, case)
        consortium = replace(consortium, stems=(), rows={})
    for stem, name in consortium.names().items():
        if name not in known and name not in told and stem not in told:
            faults.append(f"hospital '{stem}' is left out without a word")
    if result.config.privacy.unit == "none":  # else sizes are told with noise
        left = result.config.simulation.leave_out
        faults += _rows(words, consortium, left)
    for key, value in shared_arrays(result).items():
        if not np.isfinite(value).all():
            faults.append(f"the model's {key} isn't finite")
    summary = result.run_directory / "run.json"
    if result.rounds[-1]["round"] < result.config.federation.rounds:
        if "ended_early" not in summary.read_text("utf-8"):
            faults.append(f"{len(result.rounds)} rounds, and no word on why not all")
    why_none = (": evaluate: ", "there are no test figures: ")
    if not result.comparison and not any(why in told for why in why_none):
        faults.append("no table of figures at the end")
    for row in result.comparison:
        for figures in (value for value in row.values() if isinstance(value, dict)):
            faults += [
                f"{row['hospital']}: {name} is infinite"
                for name, value in figures.items()
                if isinstance(value, float) and np.isinf(value)
            ]
    return faults


def shared_arrays(result: Result) -> Arrays:
    """The saved model's arrays, without what is a hospital's own."""
    return read_tensors(result.run_directory / "model" / MODEL)[0]


def _all_rows(words: Words, consortium: Consortium, case: Case) -> list[str]:
    """Every row of a file that is dealt out is somebody's, or counted among those left out."""
    settings = case.settings
    if settings.get("privacy.unit", "none") != "none" or "simulation.rows_per_client" in settings:
        return []  # sizes are told with noise; clients of a pool are made when they are drawn
    left = sum(int(found[1]) for line in set(words.said) if (found := _ALL_LEFT_OUT.search(line)))
    used, rows = sum(words.sizes.values()), sum(consortium.rows.values())
    return [] if used + left == rows else [f"{used} of {rows} rows are used, {left} left out"]


def _rows(words: Words, consortium: Consortium, without: Sequence[str]) -> list[str]:
    """Every row of the files is used, or counted among those that were left out.

    without : hospitals that take no part, by their files
    """
    faults = []
    for stem, rows in consortium.rows.items():
        name = consortium.names()[stem]
        if stem in without or name in without:
            continue
        left = {
            line: int(found[1])
            for line in words.said
            if (found := _LEFT_OUT.match(line.removeprefix(f"{name}: "))) and name in line
        }
        used = words.sizes.get(name)
        if used is not None and used + sum(left.values()) != rows:
            faults.append(f"'{stem}': {used} of {rows} rows are used, {left or 'none'} left out")
    return faults


def inside(line: str) -> bool:
    """Whether a line quotes a place in the code."""
    return bool(_INSIDE.search(line))


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TooLong in the main thread after so long."""

    def over(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def toml(value: Any) -> str:
    """As it stands behind ``--set key=``."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(one)}' for key, one in value.items()) + "}"
    return tomli_w.dumps({"x": value}).partition(" = ")[2].strip()


def value_of(text: str) -> Any:
    """What advice means by a text."""
    text = text.rstrip(".,;")
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text.strip("'")
