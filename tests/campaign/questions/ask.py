"""Asks a question as a user would, follows the advice of every refusal, and says what is wrong."""

from __future__ import annotations

import os
import re
import signal
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from tests.campaign.checks import killed
from tests.campaign.play import ADVICE, TooLong, Words, earlier, inside, limit, toml, value_of
from tests.campaign.questions.draw import Question, Values
from tests.unlike import Consortium
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import WardroundError
from wardround.simulations import Analysis, analyse

WITHIN_S = 120
_MOST_REFUSALS = 12
_ROOT = Path(__file__).parents[3]
_OWN = _ROOT / "examples" / "own_procedure" / "interval.py"
_FINISHED = ("evaluate", "calibrate", "monitor")
_QUIET = ("describe", "trees", "vertical", "own", *_FINISHED)


@dataclass
class Answer:
    """What came of a question.

    question : with the keys that led to an answer
    refused : messages that were followed
    """

    question: Question
    analysis: Analysis | None
    words: Words
    faults: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass
class Steps(Words):
    """Kills its process when so many steps are told."""

    kill_after: int = 0

    def progress(self, text: str) -> None:
        super().progress(text)
        if self.kill_after and len(self.said) >= self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


def ask(question: Question, made: Consortium, runs: Path) -> Answer:
    """The answer; what is refused is changed as the message says, until there is one."""
    refused: list[str] = []
    tried: list[Question] = []
    while True:
        words = Words()
        answer = Answer(question, None, words, refused=refused)
        try:
            answer.analysis = run(question, made, runs, words, masked=True)
        except WardroundError as error:
            refused.append(str(error))
            tried.append(question)
            changed = next((q for q in follow(question, str(error)) if q not in tried), None)
            if changed is None or len(refused) > _MOST_REFUSALS:
                answer.faults.append(f"names no key, or its advice leads nowhere: {error}")
                return answer
            question = changed
            continue
        except TooLong:
            answer.faults.append(f"not over after {WITHIN_S} s")
            return answer
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            answer.faults.append(f"{type(error).__name__}: {error}\n{where}")
            return answer
        answer.faults += unsound(answer, made)
        return answer


def run(
    question: Question,
    made: Consortium,
    runs: Path,
    words: Words,
    masked: bool,
    resume: Path | None = None,
) -> Analysis:
    """One answer, within the limit; numpy's warnings are errors."""
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    with warnings.catch_warnings(), limit(WITHIN_S * crowd):
        warnings.simplefilter("error", RuntimeWarning)
        if resume is not None:
            return analyse(resume=resume, observer=words)
        return analyse(config_of(question, made, runs, masked), observer=words)


def config_of(question: Question, made: Consortium, runs: Path, masked: bool) -> Config:
    """The settings as a study's file."""
    asked, settings = dict(question.asked), dict(question.settings)
    text, name = made.text, asked["name"]
    if name == "statistics":  # a column is what an analysis uses it as
        text = made.text.split("[task]")[0]
    if name == "own":
        asked = {"name": f"{_OWN}:Interval", "column": "größe"} | {
            key: value for key, value in asked.items() if key != "name"
        }
    if name in _FINISHED:
        asked["model"] = str(earlier(made).parent.parent)
    if name == "vertical":
        text = _linked(made, asked)
    settings |= {"federation.runs": str(runs), "secure_aggregation.enabled": masked}
    overrides = [f"{key}={toml(value)}" for key, value in settings.items()]
    return parse_config(
        f"{text}\n{tomli_w.dumps({'procedure': asked})}", overrides, made.folder / "study.toml"
    )


def _linked(made: Consortium, asked: Values) -> str:
    """Parties that have other columns of the persons of all hospitals."""
    made.pooled()
    numbered(made.folder / "all.csv", made.folder / "persons.csv")
    outcome = {"logistic": "smoker", "poisson": "days"}.get(asked.get("model", ""), "größe")
    told = f'outcome = "{outcome}"'
    if asked.get("model") == "cox":
        told = 'time = "days"\nevent = "event"'
    dealer = "[task.parties.university]" if asked.get("dealer") == "university" else ""
    asked["link"] = "same"
    return f"""
[federation]
name = "joined"
[data]
path = "persons.csv"
[task]
name = "linked"
[task.identifiers]
person = "exact"
[task.parties.lab]
numeric = ["lactate", "creatinine"]
[task.parties.registry]
categorical = {{ ward = ["1", "2", "3", "9"] }}
{told}
{dealer}
"""


def numbered(path: Path, out: Path) -> None:
    """A file with a column ``person`` before the others, and codes in one form."""
    if out.exists():
        return
    head, *lines = path.read_text("utf-8").splitlines()
    places = [head.split(",").index(name) for name in ("ward", "event")]
    rows = []
    for number, line in enumerate(lines):
        cells = line.split(",")
        for place in places:
            cells[place] = cells[place].removesuffix(".0")
        rows.append(f"P{number},{','.join(cells)}")
    out.write_text("\n".join([f"person,{head}", *rows]) + "\n", encoding="utf-8")


def follow(question: Question, message: str) -> Iterator[Question]:
    """The question with what a refusal names changed as it says, or else left out."""
    asked, settings = dict(question.asked), dict(question.settings)
    for key, value in ADVICE.findall(message):
        table, _, last = key.rpartition(".")
        if table == "procedure":
            yield replace(question, asked=asked | {last: value_of(value)})
        else:
            yield replace(question, settings=settings | {key: value_of(value)})
    if "privacy" in message:
        kept = {k: v for k, v in settings.items() if not k.startswith("privacy.")}
        yield replace(question, settings=kept)
    for key in settings:
        if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w])", message):
            yield replace(question, settings={k: v for k, v in settings.items() if k != key})
    for key in asked:
        if key != "name" and re.search(rf"\b{key}\b", message):
            if key != "analyses":
                yield replace(question, asked={k: v for k, v in asked.items() if k != key})
    for one in asked.get("analyses", ()):
        for key in one:
            if key not in ("name", "kind") and re.search(rf"\b{key}\b", message):
                less = {k: v for k, v in one.items() if k != key}
                yield replace(question, asked=asked | {"analyses": [less]})


def unsound(answer: Answer, made: Consortium) -> list[str]:
    """What no answer may show."""
    assert answer.analysis is not None
    found, question = answer.analysis, answer.question
    faults = [f"a place in the code for a reason: {x}" for x in answer.words.said if inside(x)]
    told = "\n".join(answer.words.said)
    if question.asked["name"] != "vertical":
        for stem, name in made.names().items():
            if name not in found.hospitals and name not in told and stem not in told:
                faults.append(f"hospital '{stem}' is left out without a word")
    for file, content in found.published.items():
        faults += [f"{file}: {place} is no number" for place in _not_numbers(content, "")]
    for one in found.statistics.values() if question.asked["name"] == "statistics" else ():
        empty = not any(table["rows"] for table in one["tables"])
        if empty and not one["notes"]:
            faults.append("shows nothing, and doesn't say why")
    return faults


def _not_numbers(content: Any, place: str) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _not_numbers(value, f"{place}.{key}")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _not_numbers(value, f"{place}[{number}]")
    elif isinstance(content, float) and not np.isfinite(content):
        yield place


def plain_is_masked(answer: Answer, made: Consortium, runs: Path) -> list[str]:
    """Without masks the same is published."""
    if answer.analysis is None or answer.question.settings.get("privacy.unit"):
        return []
    try:
        other = run(answer.question, made, runs, Words(), masked=False)
    except WardroundError as error:
        return [f"refused without masks: {error}"]
    return _same("without masks", answer.analysis, other)


def resumed_is_whole(answer: Answer, made: Consortium, runs: Path) -> list[str]:
    """Killed after some steps and gone on with, the same is published."""
    if answer.analysis is None:
        return []
    before = set(runs.iterdir())
    after = 1 + answer.question.number % 5
    dies = Steps(kill_after=after)
    if not killed(lambda: run(answer.question, made, runs, dies, masked=True)):
        return []
    new = sorted(set(runs.iterdir()) - before)
    if not new:
        return []  # before there was a run
    try:
        other = run(answer.question, made, runs, Words(), masked=True, resume=new[0])
    except WardroundError as error:
        return [f"killed after {after} steps, then: {error}"]
    return _same(f"killed after {after} steps", answer.analysis, other)


def _same(how: str, one: Analysis, other: Analysis) -> list[str]:
    if set(one.published) != set(other.published):
        return [f"{how}: other files"]
    differ = [name for name in one.published if one.published[name] != other.published[name]]
    return [f"{how}: {name} differs" for name in differ if not name.endswith(".html")]
