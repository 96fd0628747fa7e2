"""Names that messages share: their types, records, and what of them several modules know.

Which request and reply is what is said by their classes:

| message type                        | request               | reply               |
|-------------------------------------|-----------------------|---------------------|
| query.manifest                      | ``ManifestRequest``   | ``ManifestReply``   |
| query.describe                      | ``DescribeRequest``   | ``DescribeReply``   |
| query.statistics                    | ``StatisticsRequest`` | ``StatisticsReply`` |
| query.sums                          | ``SumsRequest``       | ``SumsReply``       |
| query.letters                       | ``LettersRequest``    | ``LettersReply``    |
| query.hello, .group, .keys, .unmask | ``KeyRequest``        | ``KeyReply``        |
| query.deal, .dealt                  | ``KeyRequest``        | ``KeyReply``        |
| query.model                         | ``EvaluateRequest``   | ``KeyReply``        |
| query.give                          | ``EvaluateRequest``   | ``SealedModel``     |
| query.take                          | ``SealedModel``       | ``KeyReply``        |
| query.layout                        | ``LayoutRequest``     | ``KeyReply``        |
| train                               | ``TrainRequest``      | ``TrainReply``      |
| train.begin                         | ``TrainRequest``      | ``BeginReply``      |
| train, of what is kept              | ``KeptRequest``       | ``TrainReply``      |
| evaluate                            | ``EvaluateRequest``   | ``EvaluateReply``   |
| query.study_file                    | ``StudyFile``         | ``StudyReply``      |
| query.study_ended                   | ``StudyEnded``        | ``StudyReply``      |

With secure aggregation a request carries a ``MaskedTask``, and is answered with a ``MaskedReply``.
In a simulation one train or evaluate message may be for many clients (``cohort.py``).
"""

from __future__ import annotations

from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from wardround.common.flower.stored import array_bytes

R = TypeVar("R", ArrayRecord, MetricRecord, ConfigRecord)
PROTOCOL = 5
"""Version of this vocabulary; both sides must speak the same."""

MANIFEST = "query.manifest"
"""What the run is, to be accepted: answered by a hospital's process, not by its app."""
DESCRIBE = "query.describe"
STATISTICS = "query.statistics"
SUMS = "query.sums"
"""A step of a procedure that isn't training (``common/procedures``)."""
LETTERS = "query.letters"
"""A step of a joint procedure (``common/joint``)."""
HELLO = "query.hello"
GROUP = "query.group"
KEYS = "query.keys"
LAYOUT = "query.layout"
UNMASK = "query.unmask"
DEAL = "query.deal"
DEALT = "query.dealt"
"""A key that hospitals share and the server never has: one of them draws it, each takes it."""
MODEL = "query.model"
"""The model that a blind run leaves: hospitals make it of its sum, and keep it."""
GIVE = "query.give"
TAKE = "query.take"
"""Such a model from one hospital to another that lacks it, sealed."""
TRAIN = "train"
BEGIN = "train.begin"
"""To train and keep the update, which ``train`` then asks for (``kept.py``)."""
EVALUATE = "evaluate"
STUDY_FILE = "query.study_file"
"""A part of the results of a run that has ended; it and the next are answered by a hospital's
process, not by its app."""
STUDY_ENDED = "query.study_ended"
"""Flower has no other kinds of message types than train, evaluate and query."""

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
TOTALS = "totals"
SIZES = "sizes"
SECAGG = "secagg"
PRIVACY = "privacy"
QUANTILE = "quantile"
CONTROL = "control"
"""SCAFFOLD's control variates, in requests and replies."""
SCALES = "scales"
"""With ``[compression]``, the layers' scales, and what a reply adds for the next round's."""

# Keys of the secagg record.
MESSAGE = "message"
VECTOR = "vector"
SUMS_LAYOUT = "layout"
CLAIM = "claim"

ROUND = "server-round"
"""In the config record of every request of a round; the key is Flower's."""

# Keys of the metrics record of a training reply.
NUM_EXAMPLES = "num-examples"
TRAIN_LOSS = "train-loss"
LOCAL_STEPS = "local-steps"

HELD_OUT = ("validation", "test")
SPLITS = ("train", *HELD_OUT)


def arrays_of(content: RecordDict, name: str) -> ArrayRecord:
    """The record of arrays of this name. Raises KeyError where there is none."""
    return records_of(content, ArrayRecord)[name]


def records_of(content: RecordDict, kind: type[R]) -> dict[str, R]:
    """The records of one kind, by name. (Flower's own views, such as ``array_records``, hold their
    message in a cycle: a whole model would wait for the garbage collector.)"""
    return {name: record for name, record in content.items() if isinstance(record, kind)}


def payload_bytes(content: RecordDict) -> int:
    """Bytes of the values in a message: array data in full, numbers as 8, text as UTF-8."""
    total = 0
    for record in content.values():
        if isinstance(record, ArrayRecord):
            total += sum(array_bytes(array) for array in record.values())
        elif isinstance(record, MetricRecord | ConfigRecord):
            total += sum(_value_bytes(value) for value in record.values())
    return total


def _value_bytes(value: object) -> int:
    if isinstance(value, list):  # of one type: Flower's records hold no others
        if value and isinstance(value[0], int | float):
            return 8 * len(value)
        return sum(_value_bytes(item) for item in value)
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8
