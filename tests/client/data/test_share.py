"""What part a hospital plays, by its own site.toml."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.federate import Line, examples
from wardround.client.data.hospital import Hospital, Place, Share
from wardround.client.data.shard import OwnShard
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.requests.layouts import metrics_layout
from wardround.client.requests.received import ModelCache
from wardround.common.config.load import Config
from wardround.common.errors import DataError


def test_a_hospital_takes_part_with_as_many_rows_as_it_asks_of_itself(
    settings: Callable[[str], Config],
) -> None:
    """Below them it announces none, so nobody asks it, and refuses when asked all the same."""
    config = settings("[data]\ntest_fraction = 0.25\n")
    rows = examples([float(n) for n in range(12)], [1.0] * 12)
    shard = OwnShard("a", Line(), config, lambda: rows)

    def hospital(share: Share) -> Hospital:
        return Hospital(shard, place=Place(share=share))

    whole = hospital(Share()).sizes()
    trained, tested = whole["train"], whole["test"]
    assert trained > tested > 0 == whole["validation"] and trained + tested == 12
    for share, train, test in (
        (Share(), trained, tested),
        (Share(training_rows=trained, evaluation_rows=tested), trained, tested),
        (Share(training_rows=trained + 1), 0, tested),
        (Share(evaluation_rows=tested + 1), trained, 0),
        (Share("none"), trained, 0),
        (Share("last"), trained, tested),
    ):
        one = hospital(share)
        assert announced_sizes(one) == {"train": train, "validation": 0, "test": test}
        assert one.sizes() == whole
        layout = metrics_layout(one, {}, "none", ModelCache())
        assert set(layout) == ({"test"} if test else set())
    with pytest.raises(DataError, match="fewer rows for training than it asks of itself"):
        hospital(Share(training_rows=trained + 1)).statistics(0, {})
