"""What every message shares."""

from __future__ import annotations

import gc
import weakref

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from wardround.common.protocol.names import records_of


def test_a_content_whose_records_were_looked_at_goes_at_once() -> None:
    """Flower's own views keep theirs, a whole model, until the garbage collector comes by."""
    content = RecordDict({"arrays": ArrayRecord([np.zeros(3)]), "config": ConfigRecord({"a": 1})})
    assert list(records_of(content, ArrayRecord)) == ["arrays"]
    assert records_of(content, ConfigRecord)["config"]["a"] == 1
    gone = weakref.ref(content["arrays"])
    gc.disable()
    try:
        del content
        assert gone() is None
    finally:
        gc.enable()
