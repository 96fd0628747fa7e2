"""Fewer bytes than one a number, tried on X-rays: low rank, a part of the numbers, less down.

    python -m benchmarks.low_rank [--quick] [--json PATH]

``examples/pneumonia`` as ``benchmarks.compression`` runs it (CNN of width 8, 30 rounds), in plain.
Nothing of this is a setting: ``Tried`` is a strategy of this file that does to the mean update what
hospitals would do to theirs. It may, because all five answer every round with the same weights and
both forms are linear but for rounding: the mean of the errors that hospitals would keep is the
error of the mean. Rounding is drawn for each of five hospitals, in the levels that five have.

| tried | what goes up | by |
|---|---|---|
| low rank | P = M Q, then M^T P', of rank r; P' is P made orthonormal | PowerSGD (1905.13727) |
| a quarter | every fourth number of a layer, another quarter each round | Stich 2018 (1809.07599) |
| down | the change since the model was last sent, in 8 bits | Tang et al. 2019 (1905.05957) |

What wasn't sent is kept and added to the next update (error feedback). ``share`` is bytes
against 4 a number, keys and exact sums not counted. Differences are to the 32-bit run of the same
seed. ``--quick``: one seed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvgM
from numpy.typing import NDArray

from benchmarks.compression import SHORT, XRAYS, outcome
from benchmarks.flamby_data import data_folder
from benchmarks.report import Row, arguments, emit
from wardround.common.config.load import load_config
from wardround.common.flower.arrays import Arrays, decode_arrays, encode_arrays

HOSPITALS = 5
WORD_BITS, LEVELS = 8, 127 // HOSPITALS
QUARTER = 4
Matrix = NDArray[np.float64]
TRIED: dict[str, tuple[str, ...]] = {
    "32 bits": (),
    "rank 1": ("rank=1",),
    "rank 5, 8 bits": ("rank=5", "small=1"),
    "a quarter, 8 bits": ("quarter=1", "small=1"),
    "8 bits down": ("down=1",),
}


class Tried(FedAvgM):
    """FedAvgM over a mean update of which only some is sent.

    rank : of each layer with fewer numbers so; 0: all of it
    quarter : 1: a quarter of the numbers
    small : 1: in words of 8 bits; else as float32
    down : 1: the model's changes go down in 8 bits
    """

    def __init__(
        self,
        server_momentum: float = 0.9,
        rank: int = 0,
        quarter: int = 0,
        small: int = 0,
        down: int = 0,
    ) -> None:
        super().__init__(server_momentum=server_momentum)
        self.rank, self.quarter, self.small, self.down = rank, quarter, small, down
        self.memory: Arrays = {}
        self.guess: Arrays = {}
        self.sent: Arrays = {}
        self.rounds, self.bytes_up = 0, 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.sent = decode_arrays(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        (reply,) = replies
        mean = decode_arrays(reply.content["arrays"])
        assert self.current_arrays is not None
        whole = decode_arrays(self.current_arrays)
        self.rounds, self.bytes_up = server_round, 0.0
        for name, value in mean.items():
            change = (value - self.sent[name]).astype(np.float64) + self.memory.get(name, 0.0)
            came = self._came(name, change)
            self.memory[name] = change - came
            mean[name] = (whole[name] + came).astype(value.dtype)
        reply.content["arrays"] = encode_arrays(mean)
        stepped, metrics = super().aggregate_train(server_round, [reply])
        assert stepped is not None
        return (self._lowered(decode_arrays(stepped)) if self.down else stepped), metrics

    def _came(self, name: str, change: Matrix) -> Matrix:
        """What of a layer's change arrives."""
        rows = len(change) if change.ndim > 1 else 1
        matrix = change.reshape(rows, -1)
        if self.rank and self.rank * sum(matrix.shape) < matrix.size:
            return self._low_rank(name, matrix).reshape(change.shape)
        if self.quarter and change.size >= QUARTER:
            flat, came = change.reshape(-1), np.zeros(change.size)
            order = np.random.default_rng(0).permutation(change.size)
            chosen = order[self.rounds % QUARTER :: QUARTER]
            came[chosen] = self._written(flat[chosen])
            return came.reshape(change.shape)
        return self._written(change)

    def _low_rank(self, name: str, matrix: Matrix) -> Matrix:
        """One step of subspace iteration from the last round's Q."""
        if name not in self.guess:
            draw = np.random.default_rng(len(self.guess))
            self.guess[name] = draw.normal(size=(matrix.shape[1], self.rank))
        basis, _ = np.linalg.qr(self._written(matrix @ self.guess[name]))
        self.guess[name] = self._written(matrix.T @ basis)
        return np.asarray(basis @ self.guess[name].T)

    def _written(self, values: Matrix) -> Matrix:
        """As it arrives, and its bytes counted. Words: in levels of 4 root mean squares, as
        ``[compression]`` has it, each of the hospitals rounding by its own chance."""
        self.bytes_up += values.size * (WORD_BITS // 8 if self.small else 4)
        reach = 4 * math.sqrt(float(np.mean(np.square(values))))
        if not self.small or reach == 0:
            return values
        step, draw = reach / LEVELS, np.random.default_rng(self.rounds)
        clipped = np.clip(values, -reach, reach) / step
        drawn = (np.floor(clipped + draw.random(values.shape)) for _ in range(HOSPITALS))
        return np.asarray(sum(drawn)) * (step / HOSPITALS)

    def _lowered(self, model: Arrays) -> ArrayRecord:
        """What hospitals have of the model when its change came in 127 levels either side; the
        model itself stays at the server, so that what was lost is in the next change."""
        for name, value in model.items():
            change = value - self.sent[name]
            step = max(float(np.abs(change).max()) / 127, 1e-30)
            model[name] = (self.sent[name] + step * np.rint(change / step)).astype(value.dtype)
        return encode_arrays(model)


@dataclass(frozen=True)
class Found:
    """Of one run: AUC and loss of the last round on all test images."""

    auc: float
    loss: float


def run(folder: Path, setting: tuple[str, ...], seed: int) -> Found:
    """One federated run in plain."""
    images = (data_folder("pneumoniamnist") / "pneumoniamnist.npz").resolve()
    strategy = [f'strategy.name="{Path(__file__).resolve()}:Tried"']
    strategy += [f"strategy.{one}" for one in setting]
    overrides = [
        f'data.path="{images}"',
        f'federation.runs="{folder}"',
        f"federation.seed={seed}",
        "secure_aggregation.enabled=false",
        "simulation.baselines=false",
        'simulation.executor="sequential"',
        *SHORT,
        *strategy,
    ]
    made = outcome(load_config(XRAYS, overrides), "auc")
    return Found(made.figure, made.loss)


def share(setting: tuple[str, ...]) -> float:
    """Bytes up against 4 a number, of this network's layers."""
    shapes = [(8, 9), (8, 72), (16, 72), (16, 144), (32, 144), (32, 288), (1, 32), (1,)]
    shapes += [(width,) for width in (8, 8, 16, 16, 32, 32) for _ in range(2)]
    options = {key: int(value) for key, _, value in (one.partition("=") for one in setting)}
    tried = Tried(**options)
    for number, shape in enumerate(shapes):
        tried._came(str(number), np.zeros(shape))
    return tried.bytes_up / (4 * sum(math.prod(shape) for shape in shapes))


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    seeds = range(1 if options.quick else 3)
    rows: list[Row] = []
    usual: list[Found] = []
    with tempfile.TemporaryDirectory() as name:
        for case, setting in TRIED.items():
            found = [run(Path(name), setting, seed) for seed in seeds]
            usual = usual or found
            print(case, *found, flush=True)
            for what, better in (("auc", "higher"), ("loss", "lower")):
                values = np.array([getattr(one, what) for one in found])
                gaps = values - np.array([getattr(one, what) for one in usual])
                root = math.sqrt(len(gaps))
                peers: dict[str, float | None] = {
                    "difference": float(gaps.mean()),
                    "its s. e.": float(gaps.std(ddof=1) / root) if len(gaps) > 1 else None,
                    "s. e.": float(values.std(ddof=1) / root) if len(gaps) > 1 else None,
                    "share": share(setting),
                }
                rows.append(Row(case, what, float(values.mean()), better, peers))
    emit(f"X-rays with fewer bytes, {len(seeds)} seeds", rows, options.json)


if __name__ == "__main__":
    main()
