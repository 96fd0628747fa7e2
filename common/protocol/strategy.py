"""What a strategy adds to a training request: settings and arrays, by name."""

from __future__ import annotations

from wardround.common.decided import bound, data
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import ANY
from wardround.common.protocol.message import SentArrays, Value, number, text

PROXIMAL_MU = Value(
    m.CONFIG,
    "proximal-mu",
    number(least=0.0, said="a number of at least 0"),
    decided=bound("that it is its settings': nothing yet"),
)
"""FedProx's mu; the key is Flower's."""
FEDDYN_ALPHA = Value(
    m.CONFIG,
    "feddyn-alpha",
    number(above=0.0, said="a positive number"),
    decided=bound("that it is its settings': nothing yet"),
)
OTHER_SETTING = Value(
    m.CONFIG,
    ANY,
    text(),
    decided=bound("nothing yet; none but the ones above is looked at"),
)
CONTROL = SentArrays(
    m.CONTROL,
    data(
        "names and shapes of the parameters; with masks all got the same bytes",
        "common.protocol.train.TrainRequest.record",
    ),
)
OTHER_ARRAYS = SentArrays(ANY, data("nothing yet; none but the ones above is looked at"))
