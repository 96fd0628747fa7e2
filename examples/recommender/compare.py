"""Two recommenders on the same choices: by factors of users and items, and by the items' words.

    python examples/recommender/compare.py     trains both, and prints the table of the README

Films that came after the training have no factors that anybody trained; their words are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from wardround.common.tasks import load_task
from wardround.simulations import Result, load_config, load_model, simulate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make  # noqa: E402, I001 # this example's own data

TOP = 10
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
Scores = dict[str, np.ndarray]
"""By hospital: N x items, for the rows of one split, in the files' order."""
Embed = Callable[[list[str]], np.ndarray]


def rows_of(split: str) -> dict[str, list[make.Choice]]:
    """By hospital."""
    found = make.choices()
    return {name: [x for x in rows if x.split == split] for name, rows in found.items()}


def by_factors(result: Result, split: str) -> tuple[Scores, Scores]:
    """Users' vectors times items', and the items' own numbers alone, which say what is chosen
    often; each hospital's by the model that it has. Nobody's are the mean of all."""
    config, found, often = result.config, Scores(), Scores()
    task = load_task("task.py:Choices", config.task.options, HERE)
    for name in make.USERS:
        model = result.model_of(name)
        raw = task.load(HERE / "data" / "choices" / f"{name}.csv")
        parts = [task.select(raw, np.flatnonzero(raw.splits == x)) for x in (split, "train")]
        with torch.no_grad():
            found[name] = model(task.prepare(parts[0], {}, parts[1]).inputs).numpy()
            own = model.own.weight[:, 0].numpy().copy()
        own[make.WARM :] = own[: make.WARM].mean()
        often[name] = np.tile(own, (len(found[name]), 1))
    return found, often


def by_meaning(embed: Embed, split: str) -> Scores:
    """Cosines of what a user chose last with each film's words."""
    films, found = make.items(), Scores()
    items = embed([film.words for film in films])
    for name, rows in make.choices().items():
        earlier = make.history(rows)
        users = embed([make.said(one, films) for one in earlier.values()])
        place = {user: number for number, user in enumerate(earlier)}
        found[name] = np.stack([users[place[x.user]] @ items.T for x in rows if x.split == split])
    return found


def untuned() -> Embed:
    """The encoder as it comes."""
    task = load_task("text", load_config(HERE / "meaning.toml").task.options)
    model = task.model({}).eval()

    def embed(texts: list[str]) -> np.ndarray:
        rows = task.rows_of_values(texts)
        with torch.no_grad():
            return model(task.prepare(rows, {}, rows).inputs).numpy()

    return embed


def tuned(run: Path) -> Embed:
    """A run's encoder."""
    model = load_model(run)

    def embed(texts: list[str]) -> np.ndarray:
        found = model.predict(texts).columns
        return np.column_stack([v for name, v in found.items() if name.startswith("embedding_")])

    return embed


def ranks(scores: Scores, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Of all rows: the rank of the choice among all films that weren't chosen before, and whether
    it is a new one."""
    found, new = [], []
    every = make.choices()
    for name, rows in rows_of(split).items():
        earlier = make.history(every[name])
        for line, one in zip(scores[name], rows, strict=True):
            left = np.setdiff1d(np.arange(len(line)), earlier[one.user])
            found.append(int((line[left] >= line[one.item]).sum()))
            new.append(one.item >= make.WARM)
    return np.array(found), np.array(new)


def mixed(parts: list[Scores], weights: tuple[float, ...]) -> Scores:
    """A weighted sum, each row's scores of unit deviation over the films."""
    return {
        name: sum(
            weight * (part[name] - part[name].mean(1, keepdims=True))
            / (part[name].std(1, keepdims=True) + 1e-9)
            for weight, part in zip(weights, parts, strict=True)
        )
        for name in parts[0]
    }  # fmt: skip


def best_weights(parts: list[Scores]) -> tuple[float, ...]:
    """For all but the first, by the mean reciprocal rank of validation rows."""
    tried = [
        (1.0, *np.array(WEIGHTS)[list(x)]) for x in np.ndindex(*[len(WEIGHTS)] * (len(parts) - 1))
    ]
    return max(tried, key=lambda one: (1 / ranks(mixed(parts, one), "validation")[0]).mean())


def line(name: str, scores: Scores) -> str:
    """A line of the table."""
    rank, new = ranks(scores, "test")
    cells = []
    for rows in (~new, new, np.ones(len(new), dtype=bool)):
        cells.append(f"{(1 / rank[rows]).mean():>8.3f}{(rank[rows] <= TOP).mean():>8.0%}")
    return f"{name:<34}{''.join(cells)}"


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE")
    options.add_argument("--set-meaning", action="append", default=[], metavar="TABLE.KEY=VALUE")
    given = options.parse_args()
    make.write(HERE / "data")
    factors = simulate(HERE / "federation.toml", overrides=given.set)
    words = simulate(HERE / "meaning.toml", overrides=[*given.set, *given.set_meaning])
    embed = tuned(words.run_directory)
    held = [*by_factors(factors, "validation"), by_meaning(embed, "validation")]
    test = [*by_factors(factors, "test"), by_meaning(embed, "test")]
    new_rows = sum(one.item >= make.WARM for rows in rows_of("test").values() for one in rows)
    print(f"{new_rows} test choices of new films, as many of others; among the first {TOP}")
    print(f"{'':<34}{'known films':>16}{'new films':>16}{'all':>16}")
    print(f"{'ranked by':<34}" + f"{'MRR':>8}{'in ten':>8}" * 3)
    print(line("what is chosen often", test[1]))
    print(line("factors", test[0]))
    print(line("meaning, the encoder as it comes", by_meaning(untuned(), "test")))
    print(line("meaning, tuned", test[2]))
    for name, places in (("meaning and often", (2, 1)), ("meaning, often and factors", (2, 1, 0))):
        weights = best_weights([held[place] for place in places])
        print(line(name, mixed([test[place] for place in places], weights)))


if __name__ == "__main__":
    main()
