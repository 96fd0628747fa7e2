"""Trees over hospitals beside xgboost's ``hist`` over all rows at once, and what a tree costs.

    python -m benchmarks.trees                     100,000 rows, 30 columns, 10 hospitals, 60 trees
    python -m benchmarks.trees --rounds 10 --plain

Both see the same bins: xgboost is given each value's bin. Told are the AUC of both, the share of
rows whose predictions are within 1e-4, how many of the first trees are the same split by split, and
of a tree the bytes that one hospital sends and gets, and the seconds: of one hospital (sums, masks,
keys), of the server (split search, adding, opening). Seconds are the processor's: the hospitals run
one after the other in one process here, and side by side between machines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost

from wardround.client.secagg import party
from wardround.common.config.load import parse_config
from wardround.common.secagg import ring
from wardround.common.trees import growing, local
from wardround.common.trees.bins import Bins
from wardround.common.trees.features import as_rows
from wardround.common.trees.xgboost_read import read_file
from wardround.server.rounds.stepping import Stepping
from wardround.server.secagg import sum as masked_sum
from wardround.server.secagg.key_exchange import KeyExchange
from wardround.simulations import analyse
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid

SETTINGS = """
[federation]
name = "trees"
runs = "{folder}/runs"
[simulation]
baselines = false
executor = "sequential"
[secure_aggregation]
enabled = {masked}
[data]
path = "hospitals"
test_fraction = 0.0
validation_fraction = 0.0
[procedure]
name = "trees"
rounds = {rounds}
max_depth = {depth}
max_bins = {bins}
bits = {bits}
smallest_leaf = 1
[task]
kind = "binary"
[task.columns]
target = "y"
"""


def rows_of(count: int, columns: int) -> pd.DataFrame:
    """Skewed, correlated columns with gaps, and an outcome of a third of the rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, columns)) @ (np.eye(columns) + 0.1)
    x[:, ::3] = np.exp(x[:, ::3] / 2)
    signal = np.sin(x[:, 1]) + x[:, 2] * x[:, 4] / 3 + 0.6 * (x[:, 0] > 1) - 0.4 * np.abs(x[:, 5])
    y = (rng.random(count) < 1 / (1 + np.exp(-1.2 * signal + 1))).astype(int)
    x[rng.random(x.shape) < 0.02] = np.nan
    names = [f"c{number:02d}" for number in range(columns)]
    return pd.DataFrame(x.astype(np.float32), columns=names).assign(y=y)


class Clock:
    """The processor's seconds by what they were spent on; what lies within counts there alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[float] = []

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count this."""
        start, inner = time.process_time(), len(self._open)
        self._open.append(0.0)
        try:
            yield
        finally:
            spent = time.process_time() - start
            own = spent - self._open.pop()
            if inner:
                self._open[-1] += spent
            self.seconds[name] = self.seconds.get(name, 0.0) + own

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Time every call of a method."""
        inside: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timed(name):
                return inside(*args, **kwargs)

        setattr(owner, method, timed)


def watched() -> Clock:
    """A clock on all that a tree costs."""
    clock = Clock()
    clock.watch(local.LocalRows, "level_sums", "hospital: sums in bins")
    clock.watch(local.LocalRows, "gradients", "hospital: gradients")
    clock.watch(local.LocalRows, "take_round", "hospital: margins")
    clock.watch(party.SecureClient, "_masks", "hospital: masks")
    clock.watch(party.SecureClient, "bundle", "hospital: keys")
    clock.watch(party.SecureClient, "accept", "hospital: keys")
    clock.watch(party.SecureClient, "unmask", "hospital: shares")
    clock.watch(growing.GrowingRound, "add", "server: split search")
    clock.watch(ring.RingVector, "add_bytes", "server: adding")
    clock.watch(masked_sum.MaskedSum, "open", "server: opening")
    clock.watch(KeyExchange, "_make_group", "server: keys")
    clock.watch(Clients, "answer", "hospital: messages, checks, state")
    clock.watch(Stepping, "_steps", "server: messages, state")
    return clock


def pooled(frame: pd.DataFrame, bins: Bins, arguments: argparse.Namespace) -> xgboost.Booster:
    """xgboost's trees over each value's bin."""
    places = bins.place(as_rows([frame[one.name].to_numpy() for one in bins.features]))
    gone = places == bins.places
    values = (places - bins.starts[:, None]).astype(np.float32)
    values[gone] = np.nan
    data = xgboost.DMatrix(values.T, frame["y"].to_numpy(), nthread=2)
    plan = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": arguments.depth,
        "max_bin": arguments.bins + 1,
        "nthread": 2,
    }
    return xgboost.train(plan, data, arguments.rounds), data  # type: ignore[return-value]


def same_trees(ours: Path, theirs: xgboost.Booster, bins: Bins) -> int:
    """How many of the first trees have the same splits."""
    mine = _trees(json.loads(ours.read_text()))
    other = _trees(json.loads(bytes(theirs.save_raw("json"))))
    for number, (a, b) in enumerate(zip(mine, other, strict=True)):
        cuts = [
            bins.cuts[f][int(c) - 1] if left != -1 and 0 < c <= len(bins.cuts[f]) else None
            for f, c, left in zip(
                b["split_indices"], b["split_conditions"], b["left_children"], strict=True
            )
        ]
        form = ("left_children", "right_children", "split_indices", "default_left")
        same = all(a[key] == b[key] for key in form)
        for cut, left, value in zip(cuts, a["left_children"], a["split_conditions"], strict=True):
            same = same and (left == -1 or cut is None or np.float32(value) == cut)
        if not same:
            return number
    return len(mine)


def _trees(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["learner"]["gradient_booster"]["model"]["trees"]
    return found


def auc(probabilities: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """By ranks."""
    order = pd.Series(probabilities).rank().to_numpy()
    positive = truth == 1
    ones, zeros = positive.sum(), (~positive).sum()
    return float((order[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in {"rows": 100_000, "columns": 30, "hospitals": 10, "rounds": 60}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--bins", type=int, default=256)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--bits", type=int, default=64, choices=(32, 64))
    parser.add_argument("--plain", action="store_true", help="without masks")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    frame = rows_of(arguments.rows, arguments.columns)
    (folder / "hospitals").mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(frame)), arguments.hospitals)):
        frame.iloc[part].to_csv(folder / "hospitals" / f"h{number:02d}.csv", index=False)
    text = SETTINGS.format(
        folder=folder,
        masked=str(not arguments.plain).lower(),
        **{key: getattr(arguments, key) for key in ("rounds", "depth", "bins", "bits")},
    )
    clock, traffic = watched(), {"up": 0, "down": 0}
    _count(traffic)
    found = analyse(parse_config(text, [], folder / "federation.toml"))
    path = found.run_directory / "model.json"
    tell(path, frame, arguments, clock, traffic)


def _count(traffic: dict[str, int]) -> None:
    """Add up what goes over the grid."""
    inside = InProcessGrid.push_messages

    def counted(self: Any, messages: Any) -> Any:
        messages = list(messages)
        traffic["down"] += sum(_size(one) for one in messages)
        return inside(self, messages)

    pulled = InProcessGrid.pull_messages

    def counted_back(self: Any, ids: Any) -> Any:
        replies = list(pulled(self, ids))
        traffic["up"] += sum(_size(one) for one in replies)
        return replies

    InProcessGrid.push_messages, InProcessGrid.pull_messages = counted, counted_back  # type: ignore[method-assign]


def _size(message: Any) -> int:
    from wardround.common.protocol.names import payload_bytes

    return payload_bytes(message.content) if message.has_content() else 0


def tell(
    path: Path,
    frame: pd.DataFrame,
    arguments: argparse.Namespace,
    clock: Clock,
    traffic: dict[str, int],
) -> None:
    """Print what came of it."""
    model, _ = read_file(path)
    cuts = _bins_of(path.parent, model.features)
    booster, data = pooled(frame, cuts, arguments)  # type: ignore[misc]
    rows = as_rows([frame[one.name].to_numpy() for one in model.features])
    ours, theirs, truth = model.predict(rows), booster.predict(data), frame["y"].to_numpy()
    close = float((np.abs(ours - theirs) <= 1e-4).mean())
    print(f"AUC of all rows       {auc(ours, truth):.7f}, xgboost {auc(theirs, truth):.7f}")
    print(f"within 1e-4           {100 * close:.3f} % of predictions")
    print(f"first same trees      {same_trees(path, booster, cuts)} of {arguments.rounds}")
    per = arguments.rounds * arguments.hospitals
    for way, size in traffic.items():
        print(f"{way + ' a tree and hospital':22}{size / per / 1e6:.3f} MB")
    whole = dict.fromkeys(("hospital", "server"), 0.0)
    for name, spent in sorted(clock.seconds.items()):
        side = name.partition(":")[0]
        if side in whole:
            spent /= per if side == "hospital" else arguments.rounds
            whole[side] += spent
            print(f"{name:36}{1000 * spent:6.1f} ms a tree")
    for side, spent in whole.items():
        print(f"one {side} in all{'':20}{1000 * spent:6.1f} ms a tree")


def _bins_of(run: Path, features: Any) -> Bins:
    """The bins that were agreed on, from what the run keeps."""
    from wardround.common.procedures.trees.agreed import NAMES
    from wardround.server.rounds.stepping import STATE, read_steps

    (state, _), _ = read_steps(run / STATE)
    values = json.loads(bytes(next(state[name] for name in NAMES if name.endswith("text"))))
    ends = np.cumsum(values["cuts"])[:-1]
    return Bins(tuple(features), tuple(np.split(state["agreed/cuts"], ends)))


if __name__ == "__main__":
    main()
