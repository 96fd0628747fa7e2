"""Opinions are watched: hospitals train two heads on one encoder; a stream is held against itself.

    python examples/opinion_watch/watch.py            trains, and prints the tables of the README
    python examples/opinion_watch/watch.py --run RUN  with a run that is there

It also writes a stream whose last week has a surge, and prints the command that watches it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import numpy as np

from wardround.common.drift.surge import surges
from wardround.simulations import load_model, simulate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make  # noqa: E402, I001 # this example's own data

WEEKS, ROWS, POOL = 16, 25, 12
SURGING = "waiting"


class Reader:
    """What the model says of texts, each text once."""

    def __init__(self, run: Path) -> None:
        self._model, self._known = load_model(run), dict[str, tuple[str, str]]()

    def __call__(self, opinions: list[make.Opinion]) -> list[tuple[str, str]]:
        """Topic and sentiment of each."""
        new = sorted({one.text for one in opinions} - self._known.keys())
        if new:
            found = self._model.predict(new).columns
            heads = [
                self._best(found, "topic", make.TOPICS),
                self._best(found, "sentiment", make.SAID),
            ]
            self._known |= dict(zip(new, zip(*heads, strict=True), strict=True))
        return [self._known[one.text] for one in opinions]

    @staticmethod
    def _best(
        found: dict[str, np.ndarray], head: str, classes: dict[str, tuple[str, ...]]
    ) -> list[str]:
        values = np.stack([found[f"probability_{head}_{name}"] for name in classes])
        return [[*classes][place] for place in values.argmax(0)]


def counted(weeks: list[list[tuple[str, str]]]) -> tuple[np.ndarray, np.ndarray]:
    """Negative and all texts, topics x weeks, as the model has them."""
    topics = [*make.TOPICS]
    counts = np.zeros((2, len(topics), len(weeks)), dtype=np.int64)
    for place, texts in enumerate(weeks):
        for topic, sentiment in texts:
            counts[1, topics.index(topic), place] += 1
            counts[0, topics.index(topic), place] += sentiment == "negative"
    return counts[0], counts[1]


def pool_of(reader: Reader, draw: Random) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """What the model says of some texts of each topic and sentiment: streams are drawn of these,
    so its own errors are in them."""
    kinds = [(topic, sentiment) for topic in make.TOPICS for sentiment in make.SAID]
    texts = {kind: [make.opinion(*kind, draw) for _ in range(POOL)] for kind in kinds}
    reader([one for some in texts.values() for one in some])
    return {kind: reader(some) for kind, some in texts.items()}


def stream(
    pool: dict[tuple[str, str], list[tuple[str, str]]],
    draw: Random,
    bad_weeks: float = 0.0,
    surge: float = 0.0,
) -> list[list[tuple[str, str]]]:
    """Weeks of texts as the model reads them.

    bad_weeks : the deviation of the share of negative texts from week to week
    surge : that share of the surging topic in the last week; 0: none
    """
    found = []
    for number in range(WEEKS):
        last, texts = number == WEEKS - 1, []
        for topic in make.TOPICS:
            share = min(0.9, max(0.02, draw.gauss(make.QUIET["negative"], bad_weeks)))
            share = surge if surge and last and topic == SURGING else share
            for _ in range(draw.randint(ROWS - 10, ROWS + 10)):
                calm = draw.choice(["neutral", "positive"])
                sentiment = "negative" if draw.random() < share else calm
                texts.append(draw.choice(pool[topic, sentiment]))
        found.append(texts)
    return found


def false_alarms(pool: dict, bad_weeks: float, streams: int) -> tuple[int, int]:
    """Windows with an alarm, and all that have a history, of quiet streams."""
    alarms, windows = 0, 0
    for number in range(streams):
        found = surges(*counted(stream(pool, Random(f"quiet {bad_weeks} {number}"), bad_weeks)))
        windows += len({one.window for one in found})
        alarms += len({one.window for one in found if one.alarm})
    return alarms, windows


def seen(pool: dict, share: float, streams: int) -> tuple[int, int]:
    """How often a surge of the last week is an alarm of its topic, and of another."""
    here = others = 0
    place = [*make.TOPICS].index(SURGING)
    for number in range(streams):
        weeks = stream(pool, Random(f"surge {share} {number}"), surge=share)
        found = [x for x in surges(*counted(weeks)) if x.window == WEEKS - 1 and x.alarm]
        here += any(one.group == place for one in found)
        others += any(one.group != place for one in found)
    return here, others


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--run", type=Path, help="a finished run; else one is trained")
    options.add_argument("--streams", type=int, default=300)
    options.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE")
    given = options.parse_args()
    if given.run is None:
        make.write(HERE / "data")
        result = simulate(HERE / "federation.toml", overrides=given.set)
        given.run = result.run_directory
        for head in ("topic", "sentiment"):
            print(f"accuracy of {head}: {result.figure(f'accuracy_{head}', 'overall'):.3f}")
    reader, streams = Reader(given.run), given.streams
    pool = pool_of(reader, Random("pool"))
    print(f"\nquiet streams of {WEEKS} weeks, {ROWS} texts a week and topic")
    for bad_weeks in (0.0, 0.05, 0.1):
        alarms, windows = false_alarms(pool, bad_weeks, streams)
        rate = f"{alarms} alarms in {windows:,} weeks, {alarms / windows:.2%}"
        print(f"  share of negative texts 20 % +- {bad_weeks:.0%}: {rate}")
    print("a surge in the last week")
    for share in (0.3, 0.4, 0.5, 0.6):
        here, others = seen(pool, share, streams)
        print(
            f"  negative {share:.0%}: seen in {here / streams:.0%} of {streams} streams; "
            f"another topic's alarm in {others / streams:.1%}"
        )
    draw = Random("stream")
    weeks = [make.week(draw, ROWS) for _ in range(WEEKS - 1)]
    make.write_stream(HERE / "data" / "watched" / "before.csv", weeks[:4])
    weeks.append(make.week(draw, ROWS, SURGING, 0.6))
    make.write_stream(HERE / "data" / "watched" / "stream.csv", weeks)
    folder = HERE / "data" / "watched"
    print(
        f"\nwatch one of them:\nwardround monitor {given.run} --reference {folder / 'before.csv'} "
        f"--data {folder / 'stream.csv'} --by date --every week "
        "--surge sentiment=negative --per topic"
    )


if __name__ == "__main__":
    main()
