"""``python -m tests.campaign``: cases of a seed until a time is over, or one again."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pandas import DataFrame

from tests.campaign.checks import check, judged
from tests.campaign.draw import Case, cases
from tests.campaign.play import Played, play
from tests.campaign.questions.ask import Answer, ask, plain_is_masked, resumed_is_whole
from tests.campaign.questions.draw import Question, questions
from tests.campaign.questions.judges import judged as judged_statistics
from tests.campaign.questions.judges import rows_of
from tests.campaign.questions.others import judged as judged_others
from tests.unlike import Consortium, make_consortium
from wardround.common.config.load import Config

_LONG_S, _JUDGED_AT_ONCE = 20.0, 100


class Campaign:
    """Plays cases below a folder; keeps the consortia."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Consortium] = {}
        self._saved: dict[Path, Case] = {}
        self._rows: dict[Path, DataFrame] = {}

    def consortium(self, kind: str) -> Consortium:
        """The unlike hospitals of a kind, made once."""
        if kind not in self._made:
            self._made[kind] = make_consortium(kind, self.folder / kind)
        return self._made[kind]

    def play(self, case: Case) -> Played:
        """Run a case and its check; ``faults`` has all that is wrong."""
        runs = self.folder / "runs" / f"{case.seed}-{case.number}"
        runs.mkdir(parents=True)
        played = play(case, self.consortium(case.kind), runs)
        played.faults += check(played, self.consortium(case.kind), runs)
        if played.result is not None and case.check == "saved":
            self._saved[played.result.run_directory] = case
        return played

    def ask(self, question: Question) -> Answer:
        """Ask a question, hold the answer against others' code, and ask it in another way."""
        made = self.consortium(question.kind)
        runs = self.folder / "runs" / f"q{question.seed}-{question.number}"
        runs.mkdir(parents=True)
        answer = ask(question, made, runs)
        if answer.analysis is not None and question.asked["name"] == "statistics":
            if not answer.question.settings.get("privacy.unit"):
                rows = self.rows(made, answer.analysis.config)
                for one in answer.question.asked["analyses"]:
                    answer.faults += judged_statistics(
                        one, answer.analysis.statistics[one["name"]], rows
                    )
        answer.faults += judged_others(answer, made, runs)
        other = (plain_is_masked, resumed_is_whole)[question.number % 2]
        answer.faults += other(answer, made, runs)
        return answer

    def rows(self, made: Consortium, config: Config) -> DataFrame:
        """All hospitals' rows, read once."""
        if made.folder not in self._rows:
            self._rows[made.folder] = rows_of(config)
        return self._rows[made.folder]

    def judge(self) -> list[tuple[Case, str]]:
        """Faults of saved models since the last call: all in one other process."""
        waiting, self._saved = self._saved, {}
        found = judged(list(waiting)) if waiting else {}
        return [(waiting[run], fault) for run, faults in found.items() for fault in faults]


def main() -> int:
    """Exit code 1 if any case has a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, printed")
    parser.add_argument("--number", type=int, default=None, help="this one alone, with its words")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--triples", action="store_true", help="three values meet, not two")
    parser.add_argument("--questions", action="store_true", help="procedures beside training")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    logging.disable(logging.CRITICAL)
    drawn: Iterator[Any] = cases(seed, 3 if given.triples else 2)
    if given.questions:
        drawn = questions(seed)
    if given.number is not None:
        drawn = islice(drawn, given.number, given.number + 1)
    end_s, count, wrong = time.monotonic() + given.seconds, Counter[str](), 0
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        campaign = Campaign(Path(folder))
        for case in drawn:
            started_s = time.monotonic()
            if started_s > end_s:
                break
            played = campaign.ask(case) if given.questions else campaign.play(case)
            count[case.named] += 1
            if given.number is not None:
                show(played)
            if played.faults:
                wrong += 1
                print(f"\n{case.again}\n  {case}")
                for fault in played.faults:
                    print(f"  - {fault}")
            took_s = time.monotonic() - started_s
            if took_s > _LONG_S:
                print(f"{case.again}: {took_s:.0f} s")
            sys.stdout.flush()
            if count.total() % _JUDGED_AT_ONCE == 0:
                wrong += print_judged(campaign)
        wrong += print_judged(campaign)
    kinds = ", ".join(f"{name} {number}" for name, number in sorted(count.items()))
    print(f"{count.total()} cases, {wrong} with faults (seed {seed}): {kinds}")
    return int(wrong > 0)


def print_judged(campaign: Campaign) -> int:
    """Print what a saved model doesn't give; how many faults."""
    found = campaign.judge()
    for case, fault in found:
        print(f"\n{case.again}\n  {case}\n  - saved: {fault}", flush=True)
    return len(found)


def show(played: Played | Answer) -> None:
    """A single case in full."""
    for line in played.refused:
        print(f"  refused: {line}")
    for line in played.words.said:
        print(f"  said: {line}")
    if isinstance(played, Answer):
        print(played.question)
        for name, content in played.analysis.published.items() if played.analysis else ():
            if name.endswith(".json"):
                print(f"  {name}: {json.dumps(content, ensure_ascii=False)[:4000]}")
        return
    print(played.case)
    if played.result is not None:
        for row in played.result.comparison:
            print(f"  {row['hospital']}: {row['federated']}")


if __name__ == "__main__":
    sys.exit(main())
