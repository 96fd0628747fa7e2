"""What every strategy's table of options says besides its keys."""

from __future__ import annotations

from typing import ClassVar

from wardround.common.settings.base import Table


class StrategyOptions(Table):
    """No options. ``paper``: authors, year, arXiv number; ``by``: whose code it is; ``algorithm``:
    the hospitals' half; ``weighting``: what a hospital counts with, by the paper; ``keeps``: what
    of the model each hospital has for itself: '', some 'layers', or a whole 'model' of its own
    beside the shared one."""

    algorithm: ClassVar[str] = "plain"
    weighting: ClassVar[str] = "examples"
    keeps: ClassVar[str] = ""
    paper: ClassVar[str] = "McMahan et al. 2017, 1602.05629"
    by: ClassVar[str] = "Flower"
    remark: ClassVar[str] = ""

    def fewest(self) -> int:
        """Answers that a round must have for the rule to be what it is called."""
        return 1

    def why_not(self, hospitals: int) -> tuple[str, str] | None:
        """The option that doesn't go with so many hospitals a round, and what to do; else None."""
        return None
