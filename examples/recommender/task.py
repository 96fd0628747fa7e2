"""Matrix factorisation whose users' vectors stay at their hospital.

A score is the product of a user's vector and an item's, and the item's own number. Items are
shared, and what hospitals add up; users' vectors are personal entries
(``strategy.personal_layers``), which are trained and kept at the hospital, never sent, and in no
one else's model.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.tasks import Examples, Sums, Task

MOST_EARLIER, NOBODY = 64, -1


@dataclass(frozen=True)
class Rows:
    """Choices of N rows: users by number, items, splits, and the users' names."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    splits: NDArray[np.str_]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.items)

    def select(self, rows: NDArray[np.int64]) -> Rows:
        """The given rows, in that order."""
        parts = (self.users[rows], self.items[rows], self.splits[rows], self.names[rows])
        return replace(self, **dict(zip(("users", "items", "splits", "names"), parts, strict=True)))


class Factors(nn.Module):
    """A user's number and what was chosen before, B x (1 + E), to scores of all items, B x I.

    What was chosen already can't be chosen again, and what came later couldn't be while it trains:
    their scores are as low as it gets.
    """

    def __init__(self, users: int, items: int, warm: int, width: int) -> None:
        super().__init__()
        self._warm = warm
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
        self.own = nn.Embedding(items, 1)
        nn.init.normal_(self.users.weight, std=0.1)
        nn.init.normal_(self.items.weight, std=0.1)
        nn.init.zeros_(self.own.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        scores = self.users(inputs[:, 0]) @ self.items.weight.T + self.own.weight[:, 0]
        earlier = inputs[:, 1:]
        seen = F.one_hot(earlier.clamp_min(0), scores.shape[1]) * (earlier != NOBODY)[:, :, None]
        never = seen.any(1)
        if self.training:
            later = torch.arange(scores.shape[1], device=scores.device) >= self._warm
            never = never | later
        return scores.masked_fill(never, -1e9)


class Choices(Task[Rows]):
    """Options of ``[task]``.

    items : how many there are, at every hospital the same; those from ``warm`` on are new
    users : the most that a hospital may have
    width : numbers of a vector
    top_k : ``recall`` counts choices among the first so many
    """

    primary_metric = "mrr"
    higher_is_better = True

    def __init__(
        self, items: int, warm: int, users: int = 64, width: int = 8, top_k: int = 10
    ) -> None:
        self.items, self.warm, self.users = items, warm, users
        self.width, self.top_k = width, top_k

    def load(self, path: Path | None) -> Rows:
        assert path is not None, "set data.path"
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = np.array([row["user"] for row in rows])
        _, users = np.unique(names, return_inverse=True)
        if users.max() >= self.users:
            raise ValueError(f"more than {self.users} users: raise task.users at all hospitals")
        items = np.array([int(row["item"]) for row in rows])
        return Rows(users.astype(np.int64), items, np.array([row["split"] for row in rows]), names)

    def labels(self, raw: Rows) -> NDArray[np.int64]:
        return raw.items

    def patients(self, raw: Rows) -> NDArray[np.str_]:
        return raw.names

    def given_split(self, raw: Rows) -> NDArray[np.str_]:
        return raw.splits

    def prepare(self, raw: Rows, totals: Sums, train: Rows) -> Examples:
        """Users with what they chose for training, but this row's own item."""
        earlier = {
            user: train.items[train.users == user].tolist() for user in np.unique(train.users)
        }
        inputs = np.full((len(raw), 1 + MOST_EARLIER), NOBODY, dtype=np.int64)
        inputs[:, 0] = raw.users
        for row, (user, item) in enumerate(zip(raw.users, raw.items, strict=True)):
            others = [one for one in earlier.get(user, []) if one != item][:MOST_EARLIER]
            inputs[row, 1 : 1 + len(others)] = others
        return Examples(torch.from_numpy(inputs), torch.from_numpy(raw.items))

    def model(self, totals: Sums) -> nn.Module:
        return Factors(self.users, self.items, self.warm, self.width)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Of warm and of new items: rows, sum of 1 / rank, choices among the first ``top_k``."""
        own = outputs.gather(1, targets[:, None])
        rank = (outputs >= own).sum(1).double()
        new = targets >= self.warm
        sums: dict[str, Any] = {"loss": self.loss(outputs, targets).double().sum()}
        for name, rows in (("warm", ~new), ("new", new)):
            sums[f"rows_{name}"] = rows.sum()
            sums[f"mrr_{name}"] = (1 / rank[rows]).sum()
            sums[f"recall_{name}"] = (rank[rows] <= self.top_k).sum()
        return {name: np.array([float(value)]) for name, value in sums.items()}

    def summarise(self, sums: Sums) -> dict[str, float]:
        rows = {name: float(sums[f"rows_{name}"][0]) for name in ("warm", "new")}
        figures = {
            f"{what}_{name}": float(sums[f"{what}_{name}"][0] / rows[name])
            for name in rows
            if rows[name]
            for what in ("mrr", "recall")
        }
        every = sum(rows.values())
        found = sum(float(sums[f"mrr_{name}"][0]) for name in rows)
        return figures | {
            "mrr": found / max(1.0, every),
            "loss": float(sums["loss"][0]) / max(1.0, every),
            "examples": every,
        }
