"""What a task is: data, model, loss and metrics, in one small class.

A task is constructed on both sides from the same ``[task]`` table of ``federation.toml``. At a
hospital it reads the shard, contributes sums to the federated preparation and turns rows into
tensors; on the server it only builds the model and turns summed metrics into figures. Nothing but
sums (``Sums``) and model arrays ever crosses.

The order at a hospital: ``load``; a split by ``given_split`` or ``row_keys``; ``statistics``
of the training part for phase 0, 1, ...; ``prepare``. On the server: ``fit`` in phase 0, before
anything is added; after the last phase ``condense``, then ``agreed`` and ``model``.

Shapes: B examples in a batch, N examples in a shard, O model outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.figures.figure import STANDARD, Better, Figure, FigureTable
from wardround.common.figures.sums import Sums as Sums
from wardround.common.flower.arrays import Arrays
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.row_keys import identifier_keys, place_keys, tensor_keys
from wardround.common.tasks.data.shards import shard_sites, splits_of
from wardround.common.tasks.examples import Examples as Examples
from wardround.common.tasks.examples import concatenate as concatenate
from wardround.common.tasks.fit import Fit as Fit
from wardround.common.tasks.inputs import in_spans, piece
from wardround.common.tasks.low_rank import LowRank
from wardround.common.tasks.private import PrivatePreparation
from wardround.common.tasks.private_sums import ClippedSums, PrivateSums
from wardround.common.tasks.schema import Schema
from wardround.common.tasks.to_predict import RowsToPredict

if TYPE_CHECKING:
    from wardround.common.tasks.coefficients import Coefficient

Raw = TypeVar("Raw")


class Task(RowsToPredict[Raw], ABC):
    """Subclass this, or use a built-in one. ``Raw`` is the task's own form of an unprepared shard.

    The options of the ``[task]`` table (all but ``name``) are the keyword arguments of the
    constructor; raise ``wardround.common.errors.ConfigError`` or ``ValueError`` for a wrong one.
    Methods get everything they need as arguments and keep no state between calls, because one
    object may serve many simulated hospitals.

    A straight line through points; its sums of two halves, added, give the figure of the whole:

    >>> import torch
    >>> from wardround.common.figures.sums import add_sums
    >>> from wardround.common.tasks import Examples, Task
    >>> class Line(Task[Examples]):
    ...     def load(self, path):
    ...         x = torch.linspace(-1, 1, 40)[:, None]
    ...         return Examples(x, 2 * x[:, 0])
    ...     def model(self, totals):
    ...         return nn.Linear(1, 1)
    ...     def loss(self, outputs, targets):
    ...         return (outputs[:, 0] - targets) ** 2
    ...     def metrics(self, outputs, targets):
    ...         losses = self.loss(outputs, targets).double().numpy()
    ...         return {"loss": losses.sum(keepdims=True), "rows": np.array([float(len(losses))])}
    ...     def summarise(self, sums):
    ...         return {"loss": float(sums["loss"][0] / sums["rows"][0])}
    >>> task, shard = Line(), Line().load(None)
    >>> with torch.no_grad():
    ...     outputs = task.model({})(shard.inputs)
    >>> whole = task.metrics(outputs, shard.targets)
    >>> halves = [task.metrics(outputs[k::2], shard.targets[k::2]) for k in (0, 1)]
    >>> bool(np.isclose(task.summarise(add_sums(halves))["loss"], task.summarise(whole)["loss"]))
    True
    """

    primary_metric: str = "loss"
    """Name of the figure that chooses the best round and stands in tables."""
    higher_is_better: bool = False
    """Of ``primary_metric``, unless ``figures`` describes it."""
    figures: Sequence[Figure] = ()
    """What the figures of ``summarise`` are: which way is better, what bounds their error. Those
    with a name that the built-in tasks use are known; any other that isn't here is never ranked."""
    coupled_examples: bool = False
    """True where an example's loss depends on others of its batch (Cox): no per-example privacy."""
    class_scores: bool = False
    """True where the model's outputs are unnormalised scores of classes: B x C, of two classes also
    B x 1 (the second's logit), of tokens B x T x C. Distillation compares such."""
    squared_error: bool = False
    """True where the outputs, B x 1, are a standardised value and the loss its squared error: a
    teacher's value is one more target then."""
    rowwise: bool = False
    """True where ``prepare`` makes one example of each row, from that row and the totals alone:
    then rows that many clients of a virtual population share are prepared once."""

    metric_bounds: Mapping[str, float] = {}
    """For private figures (``privacy.covers``): of each sum of ``metrics`` that ``summarise`` needs
    the largest norm (L2) that one example may have in it; more is cut off. Needs ``rowwise``."""

    options_model: type[BaseModel] | None = None
    """The pydantic model of a built-in task's options, for messages about them."""

    # --- data, at the hospital ------------------------------------------------------------
    @abstractmethod
    def load(self, path: Path | None) -> Raw:
        """Read one hospital's shard at ``path``; None means the task's own example data.

        Raises DataError naming file, line and column.
        """

    def load_large(self, path: Path | None, folder: Path) -> Raw:
        """``load``, where what is too large for memory may be kept in a file in ``folder``, which
        is private, of this shard alone or of several, and the caller's to remove.

        Default: ``load``. Raises DataError as it does, and where the disk has no room.
        """
        return self.load(path)

    def load_table(self, table: pa.Table, called: str) -> Raw:
        """``load`` of a shard that a program holds (``simulate(data=...)``).

        table : columns of the types that tables have
        called : what messages call it

        Raises DataError as ``load`` does. Default: TaskError, for a task that reads files only.
        """
        raise TaskError(
            f"{type(self).__name__} has no load_table(table, called), so it can't be given data "
            "in memory; define it, or give paths"
        )

    def at(self, raw: Raw, hospital: str) -> Raw:
        """A shard as the hospital of that name has it, where the settings give hospitals different
        columns. Default: as it is. Raises DataError by place."""
        return raw

    def generate(self, client: int, generator: np.random.Generator) -> Raw | None:
        """Client 1, 2, ... of a virtual population (``simulation.partition = 'virtual'``), made up.

        It may depend on ``client`` and what ``generator`` draws, which is seeded for this client,
        and on nothing else: a client is made again whenever it is asked. Default: None, for rows
        of ``load()`` are drawn.
        """
        return None

    def sites(self, path: Path) -> dict[str, Path]:
        """Hospitals found under ``path`` for a simulation: name to shard, in a fixed order.

        Default: every file or folder in ``path`` that doesn't start with a dot, by name. Raises
        DataError for a name that is used twice.
        """
        return shard_sites(path)

    def data_set(self, path: Path) -> str:
        """What shows that a folder is one data set, and not a folder of hospitals; '' where nothing
        does. A simulation then asks how hospitals are to be made of it.

        Default: names of ``sites`` that say a split (train, val, test).
        """
        parts = [name for name, split in splits_of(self.sites(path)).items() if split]
        return f"a split: {', '.join(parts[:5])}" if parts else ""

    def size(self, raw: Raw) -> int:
        """Number of rows of a shard."""
        return len(raw)  # type: ignore[arg-type]

    def select(self, raw: Raw, rows: NDArray[np.int64]) -> Raw:
        """The given rows of a shard, in that order. Default: ``raw.select(rows)``."""
        return raw.select(rows)  # type: ignore[attr-defined, no-any-return]

    def labels(self, raw: Raw) -> NDArray[np.int64]:
        """One class per row, to split and to partition by. Default: ``raw.targets``."""
        return np.asarray(raw.targets, dtype=np.int64).reshape(-1)  # type: ignore[attr-defined]

    def patients(self, raw: Raw) -> NDArray[np.str_] | None:
        """Patient of each row, so that a split keeps a patient whole; None where unknown."""
        return None

    def people(self, raw: Raw) -> NDArray[np.str_] | None:
        """Whose each row is, by the hospital's own word where it has one (``patient_id`` of its
        ``[data.NAME]``), else ``patients``."""
        own = getattr(raw, "people", None)
        return self.patients(raw) if own is None else own

    def names_all(self, raw: Raw) -> bool:
        """Whether ``patients`` are all named by the data, and none made up for a row without one:
        else a privacy ledger can't tell who it is in another study."""
        return True

    def together(self, raw: Raw) -> NDArray[np.str_] | None:
        """What rows a split must not part, by equal values: by default a patient's; None: any."""
        return self.patients(raw)

    def row_keys(self, raw: Raw) -> NDArray[np.str_]:
        """What tells each row from the others, in every study of the same data: the hospital's
        held-out rows are chosen by it, rows with equal keys together. It should follow from the
        data alone, from nothing that a study chooses (labels, columns, sizes).

        Default: a digest of what ``together`` gives; else of an example's input, where a shard is
        ``Examples``; else the row's number, which holds only while rows are added at the end.
        """
        groups = self.together(raw)
        if groups is not None:
            return identifier_keys(groups)
        if not isinstance(raw, Examples):
            return place_keys(self.size(raw))
        found = [tensor_keys(piece(raw.inputs, span)) for span in in_spans(raw.inputs)]
        return np.concatenate(found) if found else place_keys(0)

    def measured(self, raw: Raw) -> bool:
        """Whether inputs are measurements, which noise may be added to, and no whole numbers."""
        return True

    def column(self, raw: Raw, name: str) -> NDArray[np.str_] | None:
        """A named column's value in each row, as text, to partition by; None where the task has
        no columns. Raises DataError if there is no such column, or a row has no value."""
        return None

    def given_split(self, raw: Raw) -> NDArray[np.str_] | None:
        """'train', 'validation' or 'test' for each row, where the data says so; else None."""
        return None

    def left_out(self, raw: Raw) -> Sequence[LeftOut]:
        """What ``load`` left out of the files that ``raw`` was read from; of a part nothing."""
        return []

    def warnings(self, raw: Raw) -> list[str]:
        """What a hospital should know about its shard, one line each, without cell values."""
        return []

    # --- preparation that hospitals agree on, from sums only --------------------------------
    phases: int = 0
    """How many times ``statistics`` is summed over the hospitals before training."""

    def statistics(self, train: Raw, phase: int, totals: Sums) -> Sums:
        """This hospital's sums of phase 0, 1, ...; ``totals`` holds those of earlier phases.

        Arrays are float64. Hospitals may send different keys (columns that only some have), of
        which a missing one counts as zero; but with secure aggregation all must have the same: in a
        sum with nothing but zeros a hospital's numbers would stand alone. Keys and shapes are seen
        by the server even then, values are not: so no key may come from a cell.
        ``tasks/vocabulary.py`` puts texts into values.
        """
        return {}

    preparation_reads_rows: bool = True
    """False where nothing of the rows is in the sums of the preparation."""

    def private_preparation(self) -> PrivatePreparation | None:
        """The preparation where ``[privacy]`` covers it; None where no bound is known on what a
        row adds to its sums."""
        return None

    def fit(self, keys: Mapping[str, frozenset[str]]) -> Fit:
        """On the server, in phase 0: how the hospitals fit together, by the names of each one's
        sums, before any of them are added."""
        return Fit()

    def agreed(self, totals: Sums) -> list[str]:
        """On the server, after ``condense``: what was agreed that people should know, one line
        each. Raises TaskError where nothing could be learnt."""
        return []

    def condense(self, totals: Sums) -> Sums:
        """On the server, after the last phase: what ``prepare`` and ``model`` need of the totals.

        It travels with every request, so it should be small.
        """
        return totals

    def prepare(self, raw: Raw, totals: Sums, train: Raw) -> Examples:
        """Rows to tensors. ``totals`` is what ``condense`` gave.

        ``train`` is the hospital's own training part, for local statistics. Default:
        the shard is ``Examples`` already.
        """
        if not isinstance(raw, Examples):
            raise TypeError("a task whose load() doesn't return Examples must define prepare()")
        return raw

    def unused(self, train: Raw, totals: Sums) -> list[str]:
        """What of a hospital's rows the agreement leaves unused, one line each, told at the
        hospital when it prepares them."""
        return []

    def join(self, parts: list[Examples]) -> Examples:
        """Hospitals' examples as one shard, for a simulation's pooled model."""
        return concatenate(parts)

    # --- model, loss, metrics ---------------------------------------------------------------
    @abstractmethod
    def model(self, totals: Sums) -> nn.Module:
        """A freshly initialised model; torch's global generator is seeded by the caller."""

    def predictor(self, model: nn.Module, totals: Sums) -> nn.Module:
        """A trained model as a user gets it, with outputs in their own unit. Default: as it is."""
        return model

    def standardised(self, values: Tensor, totals: Sums) -> Tensor:
        """Outputs of ``predictor``'s model as the trained one has them, where ``squared_error``.
        Default: as they are."""
        return values

    def schema(self, totals: Sums) -> Schema:
        """What a finished model takes and gives. Default: nothing is known of it."""
        return Schema(task="own")

    def input_names(self, totals: Sums) -> list[str]:
        """What the columns of the first weights stand for, in their order; [] if nothing."""
        return []

    def coefficients(self, arrays: Arrays, totals: Sums) -> list[Coefficient]:
        """What a linear model says of each input, in its own unit; [] for other models."""
        return []

    def predictions(self, outputs: Tensor, totals: Sums) -> dict[str, NDArray[np.float64]]:
        """What the outputs of ``predictor``'s model mean, N x O: the columns of
        ``schema(totals).outputs``, N each, by name. Default: ``output_0``, ``output_1``, ..."""
        values = outputs.detach().cpu().double().flatten(1).numpy()
        return {f"output_{number}": column for number, column in enumerate(values.T)}

    def from_files(self, model: nn.Module) -> list[str]:
        """Names of frozen parameters that every party reads from files of its own, like those of a
        pretrained encoder: a saved model pins them by a digest instead of holding them."""
        return []

    def own_files(self) -> Mapping[str, Path]:
        """The files of each party's own that ``from_files`` is about, by name. Default: none."""
        return {}

    def low_rank(self, model: nn.Module) -> LowRank | None:
        """The model's low-rank factors, where more is to be done between hospitals than to average
        its entries. Default: None."""
        return None

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape B; training minimises its mean over the batch."""

    @abstractmethod
    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Sums from which ``summarise`` makes figures. Must be additive over disjoint examples.

        outputs : of all examples of a hospital's split, float32, on the CPU
        targets : as ``prepare`` gave them, in the same order
        """

    @abstractmethod
    def summarise(self, sums: Sums) -> dict[str, float]:
        """Figures from (added) sums; a figure that is undefined here is left out or NaN."""

    def private_sums(self, totals: Sums, noise: float) -> PrivateSums | None:
        """What is asked for instead of ``metrics`` where figures carry noise; None where one row
        may change the figures by any amount.

        noise : about what will be on each number of sensitivity 1 (a standard deviation)

        Default: ``metrics`` of each example, cut off at ``metric_bounds``, where there are some.
        """
        return ClippedSums(self, self.metric_bounds) if self.metric_bounds else None

    def figure_table(self) -> FigureTable:
        """What this task's figures are, for all that stars, ranks, selects or plots.

        Of the primary one ``figures`` decides which way is better; else ``higher_is_better``, where
        a subclass or the object says it, or the name is unknown; else what is known of the name.
        """
        known = [*STANDARD, *self.figures]
        primary = self.primary_metric
        described = any(figure.name == primary for figure in self.figures)
        if not described and (self._says_higher() or all(one.name != primary for one in STANDARD)):
            before = FigureTable(known, primary).primary
            better: Better = "higher" if self.higher_is_better else "lower"
            known.append(replace(before, better=better))
        return FigureTable(known, primary)

    def _says_higher(self) -> bool:
        """Whether the subclass or the object itself has set ``higher_is_better``: the False that
        ``Task`` has is no statement, and must not turn round a figure known by its name."""
        classes = [one for one in type(self).__mro__ if issubclass(one, Task) and one is not Task]
        return any("higher_is_better" in vars(one) for one in (self, *classes))
