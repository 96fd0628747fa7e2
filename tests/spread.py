"""Which tests of ``pytest -n 2`` go to one worker: a marked group, or else a file.

A file's tests read fixtures of its module, which a worker makes for itself: spread one by one,
both would make each of them.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadGroupScheduling


class ByFile(LoadGroupScheduling):  # type: ignore[misc]  # xdist has no types
    """xdist's own, with files for the tests that are in no group."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order is conftest.py's: by time, not number

    def _split_scope(self, nodeid: str) -> str:
        group = super()._split_scope(nodeid)
        return nodeid.split("::", 1)[0] if group == nodeid else group
