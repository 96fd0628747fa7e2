"""The one step of ``evaluate``: the task's own figure sums of a finished model.

They are those of an evaluation in training, of the same rows: the held-out ones, or all of them
where a hospital had no part in it. The mean of the hospitals' own figures comes with them, each
rounded before it is added (``common/figures/within.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Self, cast

from wardround.common.config.load import Config
from wardround.common.durable.versioned import Format
from wardround.common.figures.figure import is_number
from wardround.common.figures.sums import Sums
from wardround.common.figures.within import of_enough, own_sums, taken_out
from wardround.common.judgement.judge import FILE as JUDGEMENT
from wardround.common.judgement.judge import Judge, check_judgement
from wardround.common.procedures.evaluate.altered import Altered, check_altered
from wardround.common.procedures.finished import scored
from wardround.common.procedures.on_model import OnModel
from wardround.common.procedures.procedure import (
    Asked,
    Earlier,
    FinishedModel,
    Parts,
    Shapes,
)
from wardround.common.settings import EVALUATE, EvaluateOptions
from wardround.common.tasks.base import Task
from wardround.common.text import to_json

log = logging.getLogger("wardround.client")
FILE = "evaluation.json"
FORMAT = Format("evaluation of a finished model", "ask for it again: wardround analyse")


class Evaluate(OnModel):
    """Figures of a finished model."""

    name = EVALUATE

    def __init__(self, config: Config, task: Task[Any], model: FinishedModel | None) -> None:
        super().__init__(config, task, model)
        self._options = cast(EvaluateOptions, config.procedure.settings)
        self._judge, self._altered = None, None
        if self._options.disturbs and model is not None:
            self._altered = Altered(config, task, model)
        if config.judgement is not None and model is not None:
            self._judge = Judge.of(config, task, model.totals)

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        cls.refuse_privacy(config, "and ask only whom exact figures are good enough for")
        check_judgement(config, task)
        options = config.procedure.settings
        if isinstance(options, EvaluateOptions) and options.disturbs:
            check_altered(config, task)
        return cls(config, task, model)

    def shapes(self, earlier: Earlier) -> Shapes | None:
        return {} if earlier else None

    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        chosen = self._splits(parts)
        device = self._config.training.device
        outputs, targets = scored(self._task, self._model, parts, chosen, device)
        found = self._task.metrics(outputs, targets)
        if self._judge is not None:
            tables = [parts[split] for split in chosen]
            found = found | self._judge.sums(tables, outputs, targets)
        own = own_sums(self._own(found), self._task.figure_table().within())
        if self._altered is not None:
            own |= self._altered.sums(parts, chosen, outputs, targets)
        return found | own

    def _own(self, sums: Sums) -> Mapping[str, float]:
        """Figures of these rows alone; none where they allow none."""
        try:
            return self._task.summarise(sums)
        except Exception as error:  # a task of one's own may do what it likes with too few rows
            log.warning("its rows allow no figures (%s)", type(error).__name__)
            return {}

    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        sums, means = taken_out(earlier[0])
        figures = self._task.summarise(dict(sums))
        values = {
            "model": self._options.model_digest,
            "rows": self._options.rows,
            "hospitals": asked.hospitals,
            "primary": self._task.primary_metric,
            "figures": {
                name: value if is_number(value) else None for name, value in figures.items()
            },
            "within": of_enough(means, asked.hospitals),
        }
        if self._altered is not None:
            values["altered"] = self._altered.shown(sums)
        if self._judge is None:
            return {FILE: to_json(FORMAT.seal(values), indent=1) + "\n"}
        judged = self._judge.judgement(
            sums, self._options.model_digest, asked.hospitals, split=self._options.rows
        )
        values["judgement"] = judged  # for the page; the file of its own is for who takes it
        return {
            FILE: to_json(FORMAT.seal(values), indent=1) + "\n",
            JUDGEMENT: to_json(judged, indent=1) + "\n",
        }
