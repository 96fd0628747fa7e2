"""TensorBoard: event files in FOLDER/RUN, written without torch or tensorflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wardround.common.run.tracking.names import ROUND


class TensorBoard:
    """A folder of event files. ``uri``: the folder that `tensorboard --logdir` is given."""

    def __init__(self, uri: str, run: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder = Path(uri) / run
        self._last = _last_round(self._folder)
        self._writer: Any = None
        self._make = EventFileWriter

    def tracked(self) -> int:
        """The last round that stands there."""
        return self._last

    def add(self, server_round: int, metrics: Mapping[str, float]) -> None:
        """One event with all metrics of the round."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._writer is None:
            self._writer = self._make(str(self._folder))
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        event = Event(wall_time=time.time(), step=server_round, summary=Summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()  # who looks on sees it now, not after two minutes

    def finish(self, about: Mapping[str, str]) -> None:
        """Scalars say nothing of how a run ended."""

    def close(self) -> None:
        """All events are on the disk."""
        if self._writer is not None:
            self._writer.close()


def _last_round(folder: Path) -> int:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not folder.is_dir():
        return 0
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    if ROUND not in events.Tags()["scalars"]:
        return 0
    return max(int(one.step) for one in events.Scalars(ROUND))
