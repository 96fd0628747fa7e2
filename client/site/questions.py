"""How many questions this hospital has answered of its rows, in all runs together.

Totals of one question over other hospitals, or of two questions that hardly differ, can be
subtracted from each other. No rule tells which: so they are counted, by what exactly was asked, and
a hospital says how many it answers. The same one asked again, in another run, counts again.

    state/questions.json   by run, a digest of each question; written before a run's first answer
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from wardround.client.site.policy import SitePolicy
from wardround.common.config.load import Config
from wardround.common.durable.private import read_private, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError
from wardround.common.settings import StatisticsOptions
from wardround.common.trust.identity import digest

_FILE = "questions.json"
_FORMAT = Format("count of questions", f"move {_FILE} away (it begins at none)")
_TURN = threading.Lock()
"""A kit's studies are accepted side by side, in threads of one process."""


class Questions:
    """Of one hospital. Raises ProvisionError for a file that can't be read or written.

    folder : the kit's ``state``
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def answered(self) -> dict[str, list[str]]:
        """Digests of what was asked, by run."""
        if not self._path.exists():
            return {}
        data = read_private(self._path, _FORMAT.mend)
        try:
            values = _FORMAT.read(json.loads(data), ProvisionError, str(self._path))
            return {str(run): [str(one) for one in asked] for run, asked in values["runs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ProvisionError(f"{self._path}: is damaged; {_FORMAT.mend}") from None

    def count(self) -> int:
        """How many."""
        return sum(map(len, self.answered().values()))

    def repeats(self, asked: list[str]) -> int:
        """How many of these were asked before, in another run or this one."""
        known = {one for each in self.answered().values() for one in each}
        return sum(one in known for one in asked)

    def check(self, site: SitePolicy, run: str, asked: list[str]) -> None:
        """Raise PolicyRefused where these would be more than ``max_questions``."""
        answered = self.answered()
        known = answered.get(run, [])
        new = len(_together(known, asked)) - len(known)
        before = sum(map(len, answered.values()))
        if new and before + new > site.max_questions:
            raise site.refused(
                "max_questions",
                f"this hospital answers {site.max_questions} questions in all; {before} were "
                f"answered, and the run asks {new} more",
                f"the run asks {new} more questions than this hospital answers",
            )

    def note(self, run: str, asked: list[str]) -> None:
        """Write them down, durably, as of the run: beside those that it has asked already, as a
        run's name is the server's to choose."""
        if not asked:
            return
        with _TURN:
            runs = self.answered()
            runs[run] = _together(runs.get(run, []), asked)
            write_private(self._path, json.dumps(_FORMAT.seal({"runs": runs})).encode())


def _together(known: list[str], asked: list[str]) -> list[str]:
    """What was asked in a run, with what is asked now: a plan may be shown again."""
    left = list(asked)
    for one in known:
        if one in left:
            left.remove(one)
    return [*known, *left]


def asked_of(config: Config) -> list[str]:
    """A digest (hexadecimal) of each question that a study asks of rows: of each analysis; of any
    other procedure one; of training none, whose model is bounded by its own rules. What it is
    called is no part of it."""
    if config.procedure.trains:
        return []
    options = config.procedure.settings
    shared = {"task": config.task.model_dump(mode="json"), "procedure": config.procedure.called}
    if config.cohort is not None:
        shared["cohort"] = config.cohort.model_dump(mode="json")
    questions = [options.model_dump(mode="json")]
    if isinstance(options, StatisticsOptions):
        questions = [one.model_dump(mode="json", exclude={"name"}) for one in options.parsed()]
    return [_digest(shared | {"asked": one}) for one in questions]


def _digest(values: object) -> str:
    return digest("question", json.dumps(values, sort_keys=True, allow_nan=False).encode()).hex()


def sentence(questions: Questions, config: Config) -> str:
    """For the people who approve a plan; '' where it asks none."""
    asked = asked_of(config)
    if not asked:
        return ""
    again = questions.repeats(asked)
    before = f", {again} of them asked before" if again else ""
    return (
        f"It asks {len(asked)} question{'s' * (len(asked) != 1)} of the rows here{before}; "
        f"{questions.count()} were answered so far. Answers to questions that hardly differ can be "
        "subtracted from each other."
    )
