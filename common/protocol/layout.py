"""``query.layout``: which sums a hospital has, by name and shape. No row has a part in the answer
but in the first step of the preparation, which nothing of the server's has a part in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flwr.app import ConfigRecord

from wardround.common.protocol import names as m
from wardround.common.protocol.message import REQUEST, Came, Content, Records, values
from wardround.common.protocol.statistics import PHASE
from wardround.common.protocol.totals import Totals


@dataclass(frozen=True)
class LayoutRequest:
    """Asks for names and shapes: of the statistics of a phase, or of metric sums.

    totals : of the preparation so far; the hospital builds the first model from them by itself
    phase : as of ``StatisticsRequest``; None: of metric sums
    """

    type: ClassVar = m.LAYOUT
    totals: Totals | None = None
    phase: int | None = None

    def to_records(self) -> Content:
        config, records = values((PHASE, self.phase)), Records()
        if self.totals is not None:
            self.totals.add_to(records, config)
        return Content({m.CONFIG: ConfigRecord(config), **records})

    @classmethod
    def from_records(cls, content: Content) -> LayoutRequest:
        """Raises RequestRefused, also for a model, which no layout depends on."""
        came = Came(content, REQUEST)
        came.config()
        totals = Totals.read(came)
        came.only((m.CONFIG, *([m.TOTALS] if totals is not None else [])))
        return cls(totals, came.find(PHASE))
