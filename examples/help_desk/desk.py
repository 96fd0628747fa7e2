"""A help desk: the encoder is tuned by hospitals together, then questions are answered, or not.

    python examples/help_desk/desk.py          trains, and prints the table of the README
    python examples/help_desk/desk.py --run RUN --ask "how do i book the parrots"

A question that is close to one the desk has answered before gets that answer (a template). Any
other searches the handbook, and the answer names its section. What is close to nothing is refused:
the desk gives no answer without a source. Both limits follow from questions held back.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wardround.common.tasks import load_task
from wardround.simulations import Result, load_config, load_model, simulate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make  # noqa: E402, I001 # this example's own data

RIGHT = 1.0
"""Of held-back questions that a template answers."""


class Untuned:
    """The encoder as it comes."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._task = load_task("text", options)
        self._model = self._task.model({}).eval()

    def __call__(self, texts: list[str]) -> np.ndarray:
        """N x H, each of length 1."""
        rows = self._task.rows_of_values(texts)
        with torch.no_grad():
            return self._model(self._task.prepare(rows, {}, rows).inputs).numpy()


class Tuned:
    """A run's encoder."""

    def __init__(self, run: Path) -> None:
        self._model = load_model(run)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """N x H, each of length 1."""
        found = self._model.predict(texts).columns
        return np.column_stack([v for name, v in found.items() if name.startswith("embedding_")])


@dataclass(frozen=True)
class Answer:
    """text : '' where the desk has none; source : where it is from"""

    text: str
    source: str


class Desk:
    """One hospital's desk.

    Parameters
    ----------
    embed : texts to embeddings
    known : questions that were answered before
    held_back : questions with answers, that the limits are chosen on
    """

    def __init__(
        self, embed: Any, known: list[make.Question], held_back: list[make.Question]
    ) -> None:
        self._embed, self._known, self.book = embed, known, [*make.handbook().values()]
        self._asked = embed([one.text for one in known])
        self._passages = embed([one.text for one in self.book])
        self._limits = (2.0, 0.0)
        self._limits = self._chosen(held_back)

    def scores(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cosines with the known questions and with the handbook's passages."""
        found = self._embed(texts)
        return found @ self._asked.T, found @ self._passages.T

    def answers(self, texts: list[str]) -> list[Answer]:
        """Of each text."""
        close, passages = self.scores(texts)
        found = []
        for like, within in zip(close, passages, strict=True):
            nearest, best = int(like.argmax()), int(within.argmax())
            if like[nearest] >= self._limits[0]:
                text = self._known[nearest].answer
                found.append(Answer(text, f"{self._source(text)}, as asked before"))
            elif within[best] >= self._limits[1]:
                found.append(Answer(self.book[best].text, self.book[best].source))
            else:
                found.append(Answer("", ""))
        return found

    def _source(self, text: str) -> str:
        return next(one.source for one in self.book if one.text == text)

    def _chosen(self, held_back: list[make.Question]) -> tuple[float, float]:
        """The least cosine at which templates are right; and the one that best tells questions
        from the same questions with all about their thing taken out of the handbook."""
        close, passages = self.scores([one.text for one in held_back])
        answers = [one.answer for one in held_back]
        right = np.array(
            [self._known[n].answer == x for n, x in zip(close.argmax(1), answers, strict=True)]
        )
        best = close.max(1)
        fits = [limit for limit in sorted(best) if right[best >= limit].mean() >= RIGHT]
        of = np.array([[one.thing == self._thing(x) for one in self.book] for x in answers])
        there, gone = passages.max(1), np.where(of, -1.0, passages).max(1)
        told = [(there >= limit).mean() + (gone < limit).mean() for limit in sorted(there)]
        return min(fits, default=2.0), float(sorted(there)[int(np.argmax(told))])

    def _thing(self, text: str) -> str:
        return next(one.thing for one in self.book if one.text == text)


def measured(desk: Desk, asked: list[make.Question]) -> str:
    """A line of the table: the search's ranks, then what became of the questions."""
    texts = [one.text for one in asked]
    answers = desk.answers(texts)
    refused = np.mean([not one.text for one in answers])
    if not asked[0].answer:
        return f"{'':>24}{'':>10}{np.mean([bool(x.text) for x in answers]):>10.0%}{refused:>10.0%}"
    place = [[one.text for one in desk.book].index(one.answer) for one in asked]
    passages = desk.scores(texts)[1]
    own = passages[np.arange(len(place)), place]
    rank = (passages >= own[:, None]).sum(1)
    right = np.mean([one.text == other.answer for one, other in zip(answers, asked, strict=True)])
    return (
        f"{np.mean(1 / rank):>8.3f}{np.mean(rank <= 1):>8.0%}{np.mean(rank <= 5):>8.0%}"
        f"{right:>10.0%}{1 - right - refused:>10.0%}{refused:>10.0%}"
    )


def show(name: str, embed: Any, hospital: str = "north") -> None:
    """The table of one encoder."""
    data = make.hospitals()[hospital]
    desk = Desk(embed, data["train"], data["validation"])
    for kind, asked in make.asked_anew().items():
        print(f"{name:<12}{kind:<8}{len(asked):>4}{measured(desk, asked)}")


def print_comparison(result: Result) -> None:
    """The test questions of each hospital among its own answers: who trained on whose."""
    (overall,) = [row for row in result.comparison if row["hospital"] == "overall"]
    for training in ("local", "federated", "pooled"):
        if found := overall.get(training):
            print(f"{training:<12}MRR {found['mrr']:.3f}  first {found['recall_at_1']:.0%}")
    print()


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--run", type=Path, help="a finished run; else one is trained")
    options.add_argument("--ask", help="one question, instead of the table")
    options.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE")
    given = options.parse_args()
    if given.run is None:
        make.write(HERE / "data")
        result = simulate(HERE / "federation.toml", overrides=given.set)
        given.run = result.run_directory
        print_comparison(result)
    tuned = Tuned(given.run)
    if given.ask:
        data = make.hospitals()["north"]
        (answer,) = Desk(tuned, data["train"], data["validation"]).answers([given.ask])
        print(f"{answer.text} [{answer.source}]" if answer.text else "no answer: no source says it")
        return
    head = f"{'MRR':>8}{'first':>8}{'in 5':>8}{'right':>10}{'wrong':>10}{'refused':>10}"
    print(f"{'encoder':<12}{'asked':<12}{head}")
    config = load_config(HERE / "federation.toml", given.set)
    show("as it comes", Untuned(config.task.options))
    show("tuned", tuned)


if __name__ == "__main__":
    main()
