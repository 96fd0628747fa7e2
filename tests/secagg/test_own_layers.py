"""A server that says which layers are personal: each hospital's own settings do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message
from torch import nn

from tests.federate import Federate, Line, examples
from wardround.common.errors import RoundFailed
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import encode_arrays
from wardround.common.protocol import names as m

PERSONAL = "[federation]\nretry_wait_s = 0\n[strategy]\npersonal_layers = ['0.bias']\n"


class Affine(Line):
    """With a bias."""

    def model(self, totals: Sums) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 1))


def told(local: list[str], more: dict[str, Any]) -> Any:
    """A server's lie: these layers are personal, and the request holds these arrays too."""

    def wrap(app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            if message.metadata.message_type == m.TRAIN:
                config = dict(message.content[m.CONFIG]) | {"local-keys": local}
                message.content[m.CONFIG] = ConfigRecord(config)
                sent = {**message.content[m.ARRAYS], **encode_arrays(more)}
                kept = {name: array for name, array in sent.items() if name not in local}
                message.content[m.ARRAYS] = ArrayRecord(kept)
            return app(message, context)

        return answer

    return wrap


@pytest.mark.parametrize(
    ("local", "more"),
    [([], {"0.bias": np.zeros(1, np.float32)}), (["0.bias", "0.weight"], {})],
    ids=["to get them trained and sent", "to have the others written and kept"],
)
def test_other_layers_than_the_settings_say_are_refused(
    federate: Federate, settings: Any, local: list[str], more: dict[str, Any]
) -> None:
    shards = {name: examples([1.0] * 4, [1.0] * 4) for name in "ab"}
    with pytest.raises(RoundFailed, match="names other personal layers than this hospital's"):
        federate(settings(PERSONAL), shards, Affine(), wrap=told(local, more))
