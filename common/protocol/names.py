"""The vocabulary of the federation: message types, record names, and their sizes.

Every request carries ``config`` and, from round 1 on, the summed preparation ``totals``; training
and evaluation requests carry the model in ``arrays``. What a reply must hold is checked in
``server/gathering/replies.py``.

| message type       | request                             | reply                               |
|--------------------|-------------------------------------|-------------------------------------|
| query.describe     | config                              | describe (config), sizes (metrics)  |
| query.statistics   | config (phase), totals              | arrays: this hospital's sums        |
| train              | config, totals, arrays, strategy's  | arrays, metrics, strategy's         |
| evaluate           | config, totals, arrays              | arrays: metric sums, metrics        |

In a simulation, one train or evaluate message may be for a group of clients (config: clients,
weighting); the reply holds weighted sums over them, and who is in them (config: accepted, refused,
reasons). See ``server/gathering/cohorts.py``.

With privacy a training reply has no loss, and a ``privacy`` record with a signed claim (or the
claim in the ``secagg`` record); with an adaptive clipping norm also the array record ``quantile``.

With secure aggregation the last three carry a ``secagg`` record (the task) in the request, and in
the reply nothing but that record: a masked vector. These come with it, each a message of
``common/secagg/messages.py`` in a ``secagg`` record, both ways:

| query.hello, query.group, query.keys   | the keys, once per session and bundle                   |
| query.layout                           | names and shapes of sums (config, totals, arrays as for |
|                                        | the sums themselves), no value                          |
| query.unmask                           | the survivor set; shares of masks                       |
"""

from __future__ import annotations

from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from wardround.common.flower.arrays import array_bytes

R = TypeVar("R", ArrayRecord, MetricRecord, ConfigRecord)
PROTOCOL = 2
"""Version of this vocabulary; both sides must speak the same."""

MANIFEST = "query.manifest"
"""What the run is, to be accepted: answered by a hospital's process, not by its app."""
DESCRIBE = "query.describe"
STATISTICS = "query.statistics"
HELLO = "query.hello"
GROUP = "query.group"
KEYS = "query.keys"
LAYOUT = "query.layout"
UNMASK = "query.unmask"
TRAIN = "train"
EVALUATE = "evaluate"

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
TOTALS = "totals"
SIZES = "sizes"
SECAGG = "secagg"
MANIFEST_RECORD = "manifest"
PRIVACY = "privacy"
BUDGET = "privacy: "
"""How the reason begins with which a client refuses what its privacy budget forbids."""
REJECTED = "this hospital rejected the plan of run "
"""How the reason begins with which a client refuses what a person there has rejected."""
QUANTILE = "quantile"
CONTROL = "control"
"""SCAFFOLD's control variates, in requests and replies."""

# Keys of the secagg record.
MESSAGE = "message"
VECTOR = "vector"
SUMS_LAYOUT = "layout"
CLAIM = "claim"

# Keys of the config record. Those with a hyphen that Flower's strategies set keep Flower's names.
ROUND = "server-round"
STATE_ROUND = "state-round"
ALGORITHM = "algorithm"
LOCAL_KEYS = "local-keys"
BEST_ROUND = "best-round"
"""Of evaluation requests: the best round before this one, where the best is the result."""
FROZEN = "frozen"
"""Digest of frozen entries that every party makes by itself, so that all have the same."""
PROXIMAL_MU = "proximal-mu"
PHASE = "phase"
TOTALS_DIGEST = "totals-digest"
PROTOCOL_KEY = "protocol"

# The same, for privacy: what the server proposes and a hospital accounts for.
RUN = "run"
PLANNED_ROUNDS = "planned-rounds"
COHORT = "cohort"
SAMPLING_RATE = "sampling-rate"
EXPECTED_UNITS = "expected-units"
CLIPPING_NORM = "clipping-norm"

# The same, for a message to a group of clients of one process (a simulation's).
CLIENTS = "clients"
"""Node ids of all whom the message is for; it is sent to the first."""
WEIGHTING = "weighting"

# Keys of the config and metrics records of such a group's reply.
ACCEPTED = "accepted"
REFUSED = "refused"
REASONS = "reasons"
WEIGHT = "weight"

# Keys of the metrics record of a training reply.
NUM_EXAMPLES = "num-examples"
TRAIN_LOSS = "train-loss"
LOCAL_STEPS = "local-steps"

HELD_OUT = ("validation", "test")
SPLITS = ("train", *HELD_OUT)


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
