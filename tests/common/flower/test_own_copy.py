"""What one simulated client does to its request is no other's."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from wardround.common.flower.hosting import become_client, own_copy, set_message_id


def test_a_copy_that_is_changed_leaves_the_request_as_it_was() -> None:
    become_client()
    records: dict[str, Any] = {
        "arrays": ArrayRecord({"w": Array(np.arange(3.0))}),
        "config": ConfigRecord({"said": "all"}),
        "numbers": MetricRecord({"n": 1}),
    }
    message = Message(RecordDict(records), dst_node_id=7, message_type="train")
    set_message_id(message, "m")
    copy = own_copy(message)
    ours: Any = copy.content
    first: Any = message.content
    assert copy.metadata.message_id == "m" and copy.metadata.dst_node_id == 7
    assert ours == first
    ours["arrays"]["w"] = Array(np.zeros(1))
    ours["config"]["said"] = "one"
    del ours["numbers"]
    np.testing.assert_array_equal(first["arrays"]["w"].numpy(), np.arange(3.0))
    assert first["config"]["said"] == "all" and first["numbers"]["n"] == 1
