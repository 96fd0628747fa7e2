"""A finished model with what it needs to predict: its preparation, its precision, its names.

Examples go through it in batches of one size, counted from the input's first row, as evaluation
takes them: the same rows in the same order give the same bits, however they came, and those that
the run measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.model.activations import rows_at_once
from wardround.common.model.precision import autocast, whole
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.predict.base import Predicts, Values
from wardround.common.predict.given import Piece
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Task
from wardround.common.tasks.inputs import SPAN_BYTES, Inputs, piece, width

ROWS_AT_A_TIME = 8192
_FLOAT_BYTES = 4


class Predictor(Predicts):
    """See ``load_model`` for the parameters.

    Attributes
    ----------
    folder : the model's
    module : the model itself, in evaluation mode, outputs in their own unit
    """

    def __init__(
        self,
        folder: ModelFolder,
        hospital: str | None = None,
        *,
        own_rows: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(folder.task, folder.totals, folder.schema)
        self.folder, self._device = folder, device
        self.module: nn.Module = folder.module(hospital).to(device)
        self._own = self._own_rows(own_rows)

    def check(self, today: date | None) -> None:
        self.folder.check(None, today)

    @property
    def model_digest(self) -> str:
        """What stands for the model in plans, logs and calibrations."""
        return self.folder.digest

    @property
    def task(self) -> Task[Any]:
        """The task that the model was trained for."""
        return self.folder.task

    def outputs(self, raw: Any) -> Tensor:
        """The model's outputs for rows in the task's own form (of ``Task.load`` or ``load_rows``),
        float32, on the CPU. Raises DataError for rows that can't be prepared."""
        prepared = self._examples(raw)
        return torch.cat([o for _, o in self._predicted([(Piece(raw), prepared)])])

    # --- parts ------------------------------------------------------------------------------------
    def _own_rows(self, given: Any) -> Any:
        """The rows that a hospital's own statistics are of; None where there is no need."""
        task, why = self.task, self.task.own_statistics()
        if given is None and why:
            raise TaskError(
                f"the model {why}",
                who=str(self.folder.path),
                mend="name these, at the hospital that has them: --own-rows SHARD, in Python "
                "load_model(..., own_rows=PATH)",
            )
        if given is None or not isinstance(given, str | Path):
            return given
        raw = task.load(Path(given))
        split = task.given_split(raw)
        return raw if split is None else task.select(raw, np.flatnonzero(split == "train"))

    def _values(self, parts: Iterator[Piece]) -> Iterator[tuple[Piece, Values]]:
        prepared = ((part, self._examples(part.raw)) for part in parts)
        for part, outputs in self._predicted(prepared):
            yield part, self.task.predictions(outputs, self._totals)

    def _examples(self, raw: Any) -> Inputs:
        size = self.task.size(raw)
        train = self._own
        if train is None:  # nothing of it may be needed: an empty part can't pass for a hospital's
            train = self.task.select(raw, np.zeros(0, dtype=np.int64))
        try:
            examples = self.task.prepare(raw, self._totals, train)
        except (TypeError, ValueError, KeyError) as error:
            raise TaskError(f"the task's prepare() failed with {type(error).__name__}") from error
        if len(examples) != size:
            raise TaskError(
                f"the task's prepare() made {len(examples)} examples of {size} rows, so nobody "
                "knows whose a prediction is; return one for each row, in their order"
            )
        return examples.inputs

    def _predicted(
        self, prepared: Iterable[tuple[Piece, Inputs]]
    ) -> Iterator[tuple[Piece, Tensor]]:
        """Each part with its outputs; batches go on over the ends of parts."""
        waiting: deque[tuple[Piece, int]] = deque()
        inputs, outputs = _Held(), _Held()
        for part, own in prepared:
            if not inputs.takes(own):  # bytes beside numbers: of images, whose types say a scale
                outputs.put(self._forward(inputs.take(inputs.size)))
            waiting.append((part, len(own)))
            inputs.put(piece(own, slice(0, len(own))))
            size = self._batch(own)
            while inputs.size >= size:
                outputs.put(self._forward(inputs.take(size)))
            while waiting and waiting[0][1] <= outputs.size and outputs.filled:
                yield waiting[0][0], outputs.take(waiting.popleft()[1])
        if waiting:
            outputs.put(self._forward(inputs.take(inputs.size)))
        for part, rows in waiting:
            yield part, outputs.take(rows)

    def _batch(self, inputs: Inputs) -> int:
        """How many examples are taken at once, as evaluation has it (``in_spans``)."""
        most = self.folder.config.training.micro_batch_size or self._as_fits(inputs)
        return min(most, max(1, SPAN_BYTES // (_FLOAT_BYTES * max(1, width(inputs)))))

    @with_ordinary_torch
    def _as_fits(self, inputs: Inputs) -> int:
        def row() -> Tensor:
            return piece(inputs, slice(0, 1)).to(self._device)

        with autocast(self._training):
            return rows_at_once(self.module, row, len(inputs), ROWS_AT_A_TIME)

    @with_ordinary_torch
    def _forward(self, inputs: Tensor) -> Tensor:
        """Raises TaskError for outputs that aren't finite."""
        with torch.no_grad(), autocast(self._training):
            found = whole(self.module(inputs.to(self._device))).cpu()
        if not torch.isfinite(found).all():
            raise TaskError("the model's outputs for some of these rows are no finite numbers")
        return found

    @cached_property
    def _training(self) -> TrainingTable:
        return self.folder.config.training.model_copy(update={"device": self._device})


class _Held:
    """Rows that come in some pieces and are taken in others, in their order.

    size : how many are held; filled : whether any ever came
    """

    def __init__(self) -> None:
        self._parts: deque[Tensor] = deque()
        self.size, self.filled = 0, False

    def takes(self, inputs: Inputs) -> bool:
        """Whether these can follow those that are held."""
        return not self.size or self._parts[-1].dtype == inputs.dtype

    def put(self, rows: Tensor) -> None:
        """The next rows."""
        self.filled = True
        if not self.size:
            self._parts.clear()  # an empty one of another type
        if len(rows) or not self._parts:
            self._parts.append(rows)
        self.size += len(rows)

    def take(self, count: int) -> Tensor:
        """The first ``count`` rows; it holds as many."""
        parts = [self._parts[0][:0]] if self._parts else []
        left = count
        while left:
            first = self._parts[0]
            parts.append(first[:left])
            if len(first) > left or len(self._parts) == 1:
                self._parts[0] = first[left:]
            else:
                self._parts.popleft()
            left -= len(parts[-1])
        self.size -= count
        return torch.cat(parts)
