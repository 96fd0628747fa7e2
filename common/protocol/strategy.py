"""What a strategy adds to a training request: settings and arrays, by name."""

from __future__ import annotations

from wardround.common.decided import bound, data
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import ANY
from wardround.common.protocol.message import SentArrays, Value, number, text

_OWN = "client.requests.settings.check_settings"

PROXIMAL_MU = Value(
    m.CONFIG,
    "proximal-mu",
    number(least=0.0, said="a number of at least 0"),
    decided=bound("equal to its settings'", _OWN),
)
"""FedProx's mu; the key is Flower's."""
FEDDYN_ALPHA = Value(
    m.CONFIG,
    "feddyn-alpha",
    number(above=0.0, said="a positive number"),
    decided=bound("equal to its settings'", _OWN),
)
OTHER_SETTING = Value(
    m.CONFIG,
    ANY,
    text(),
    decided=bound(
        "none with a built-in strategy; of one's own, where only sums are seen: equal to a key of "
        "[strategy]",
        _OWN,
    ),
)
CONTROL = SentArrays(
    m.CONTROL,
    data(
        "that the strategy has it; names and shapes of the parameters; with masks all got the same "
        "bytes",
        "common.protocol.train.TrainRequest.record",
    ),
)
SCALES = SentArrays(
    m.SCALES,
    bound(
        "round 1: its own; later what the plan's rule (a factor of 2 a round) can have made of "
        "these and of those that it was shown before; with masks all got the same bytes",
        "client.requests.compressed.writing_of",
    ),
)
OTHER_ARRAYS = SentArrays(
    ANY, data("none where only sums are seen, or with a built-in strategy", _OWN)
)
