"""``train``: the model goes to a hospital, and comes back after its local training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from numpy.typing import NDArray

from wardround.common.decided import bound, derived
from wardround.common.errors import ReplyRefused
from wardround.common.flower.arrays import (
    Arrays,
    ArraySpec,
    Layout,
    checked_arrays,
    decode_arrays,
    encode_arrays,
    stored_arrays,
)
from wardround.common.mapped import is_large
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import ANY, Leaf, Protection, leaf_of
from wardround.common.protocol.masked import (
    CLAIM as MASKED_CLAIM,
)
from wardround.common.protocol.masked import MaskedTask, message_leaf, own_leaves
from wardround.common.protocol.message import (
    MOST_WHOLE,
    REPLY,
    REQUEST,
    Came,
    Content,
    Records,
    Value,
    as_request,
    data,
    number,
    text,
    values,
    whole,
)
from wardround.common.protocol.model import ROUND, SentModel, further, model_content
from wardround.common.protocol.totals import Totals
from wardround.common.settings import PrivacyTable, SecureAggregationTable

T = TypeVar("T")
MOST_ROUNDS = 1_000_000
QUANTILE_LAYOUT: dict[str, Layout] = {m.QUANTILE: {m.QUANTILE: ArraySpec((1,), "float32")}}
"""The record of a reply where the clipping norm adapts: the share of units within it, shifted."""
_POSITIVE = number(above=0.0, said="a positive number")

_GATE = "client.site.gate.Gate.may_begin"
_OWN, _PROPOSAL = "client.requests.settings.check_settings", "client.privacy.proposal.Proposal.of"

ALGORITHM = Value(
    m.CONFIG,
    "algorithm",
    text(fewest=1, said="a name"),
    decided=bound("one of the plan's, and its settings' strategy's", _OWN),
)
WEIGHTING = Value(
    m.CONFIG,
    "weighting",
    text(),
    decided=bound("not there, outside a simulation", _OWN),
)
RUN = Value(
    m.CONFIG, "run", text(200, 1), "name the run", decided=bound("equal to the plan's", _GATE)
)
PLANNED_ROUNDS = Value(
    m.CONFIG,
    "planned-rounds",
    whole(1, MOST_ROUNDS, said=f"in 1..{MOST_ROUNDS}"),
    decided=bound(
        "up to the plan's rounds, and no fewer than rounds x cohort / hospitals: all of them where "
        "everyone is asked, or rounds are buffered",
        _GATE,
    ),
)
COHORT = Value(
    m.CONFIG,
    "cohort",
    whole(1, said="a number of hospitals"),
    decided=bound(
        "up to the plan's; no fewer than are in the group that a sum with noise is of", _GATE
    ),
)
SAMPLING_RATE = Value(
    m.CONFIG,
    "sampling-rate",
    number(above=0.0, most=1.0, said="a positive number up to 1"),
    decided=bound(
        "up to batch size x hospitals / (its units + one for each other hospital); the ledger is "
        "charged for the rate that it draws with",
        _PROPOSAL,
    ),
)
EXPECTED_UNITS = Value(
    m.CONFIG,
    "expected-units",
    _POSITIVE,
    decided=derived(
        "the batch size; at a rate of 1 up to it. What is sent and its noise are divided by it",
        _PROPOSAL,
    ),
)
CLIPPING_NORM = Value(
    m.CONFIG,
    "clipping-norm",
    _POSITIVE,
    decided=bound(
        "its settings'; where it adapts, within what so many rounds can have made of that. The "
        "noise grows with it",
        _PROPOSAL,
    ),
)
_TERMS = (RUN, PLANNED_ROUNDS, COHORT, SAMPLING_RATE, EXPECTED_UNITS, CLIPPING_NORM)
_KNOWN = (ALGORITHM, WEIGHTING, *_TERMS)

NUM_EXAMPLES = Value(m.METRICS, m.NUM_EXAMPLES, whole(0, MOST_WHOLE - 1))
LOCAL_STEPS = Value(m.METRICS, m.LOCAL_STEPS, whole(0, MOST_WHOLE - 1))
TRAIN_LOSS = Value(m.METRICS, m.TRAIN_LOSS, number())
CLAIM = Value(m.PRIVACY, m.CLAIM, data())


# --- request ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class PrivacyTerms:
    """What the server proposes for a private round, and a hospital accounts for.

    run : names the run in the hospital's ledger; up to 200 characters
    planned_rounds : in which the hospital is going to take part, for calibration
    cohort : hospitals in the round
    sampling_rate : of a summed step, in (0, 1]; 1 otherwise
    expected_units : drawn in a summed step by all hospitals together; 1 otherwise
    clipping_norm : L2, of a unit's gradient or a hospital's update; the round's where it adapts
    """

    run: str
    planned_rounds: int
    cohort: int
    sampling_rate: float
    expected_units: float
    clipping_norm: float

    @classmethod
    def read(cls, came: Came) -> PrivacyTerms | None:
        """From a request; None where it proposes nothing."""
        if not any(value.key in came.config() for value in _TERMS):
            return None
        return cls(
            came.take(RUN),
            came.take(PLANNED_ROUNDS),
            came.take(COHORT),
            came.take(SAMPLING_RATE),
            came.take(EXPECTED_UNITS),
            came.take(CLIPPING_NORM),
        )

    def values(self) -> dict[str, Any]:
        """As settings of a request."""
        return values(
            (RUN, self.run),
            (PLANNED_ROUNDS, self.planned_rounds),
            (COHORT, self.cohort),
            (SAMPLING_RATE, self.sampling_rate),
            (EXPECTED_UNITS, self.expected_units),
            (CLIPPING_NORM, self.clipping_norm),
        )


@dataclass(frozen=True)
class TrainRequest:
    """Asks for local training of the model that it carries.

    algorithm : the hospital's half of the strategy, by name
    privacy : in a private run
    masked : with secure aggregation, under which keys the answer is masked
    weighting : of a message to many clients: what each counts for, 'examples' or 'uniform'
    strategy : settings that the strategy has added (``PROXIMAL_MU``, ``FEDDYN_ALPHA``, its own)
    records : the strategy's further arrays, each record mirroring the parameters; not decoded
    """

    type: ClassVar = m.TRAIN
    model: SentModel
    algorithm: str = "plain"
    totals: Totals | None = None
    privacy: PrivacyTerms | None = None
    masked: MaskedTask | None = None
    weighting: str = ""
    strategy: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, ArrayRecord] = field(default_factory=dict)

    def to_records(self, first: Iterable[str] = ()) -> Content:
        """``first``: settings that stand before all others, in the order that a strategy chose."""
        model = self.model
        config = {
            **values((ALGORITHM, self.algorithm), (ROUND, model.server_round)),
            **self.strategy,
            **model.of_entries(),
            **(self.privacy.values() if self.privacy else {}),
            **model.of_client(),
        }
        content = model_content(model, config, self.totals, None, first)
        if self.weighting:
            content[m.CONFIG] = ConfigRecord(
                {**content[m.CONFIG], WEIGHTING.key: self.weighting}  # type: ignore[dict-item]
            )
        for name, record in self.records.items():
            content[name] = record
        if self.masked is not None:
            self.masked.add_to(content)
        return content

    def completed(self, model: SentModel, settings: Mapping[str, Any]) -> TrainRequest:
        """This request with a strategy's model and the settings that it gave with it."""
        return replace(self, model=model, strategy={**further(settings, *_KNOWN), **self.strategy})

    @classmethod
    def from_records(cls, content: Content) -> TrainRequest:
        """Raises RequestRefused. No array is decoded."""
        came = Came(content, REQUEST)
        model = SentModel.read(came)
        records = m.records_of(content, ArrayRecord)
        return cls(
            model,
            came.find(ALGORITHM) or "plain",
            Totals.read(came),
            PrivacyTerms.read(came),
            MaskedTask.read(content),
            came.find(WEIGHTING) or "",
            further(came.config(), *_KNOWN),
            {name: one for name, one in records.items() if name not in (m.ARRAYS, m.TOTALS)},
        )

    def setting(self, value: Value[T], default: T | None = None) -> T:
        """A setting of the strategy's. Raises RequestRefused if it isn't right, or isn't there and
        has no default."""
        found = default
        if value.key in self.strategy:
            found = value.kind.take(self.strategy[value.key])
        if found is None:
            raise REQUEST.is_wrong(value)
        return found

    def record(self, name: str, layout: Layout) -> Arrays:
        """A record of the strategy's, decoded. Raises RequestRefused unless it is of ``layout``."""
        if name not in self.records:
            raise REQUEST.lacks(name)
        with as_request():
            return decode_arrays(self.records[name], layout)


# --- reply -----------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class TrainReply:
    """A hospital's model after training, in plain.

    arrays : of the request's layout; large ones mustn't change until its records have been sent
    num_examples : rows that it trained on; what it announced of them under privacy
    local_steps : steps of the optimiser, at least 1
    train_loss : mean over the steps; None in a private run
    records : the strategy's further arrays, and privacy's ``quantile``
    claim : in a private run, what the hospital says of its budget, signed
    """

    type: ClassVar = m.TRAIN
    arrays: Mapping[str, NDArray[Any]]
    num_examples: int
    local_steps: int
    train_loss: float | None
    records: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    claim: bytes | None = None

    def to_records(self) -> Content:
        records: Records = {name: encode_arrays(one) for name, one in self.records.items()}
        if self.claim is not None:
            records[m.PRIVACY] = ConfigRecord(values((CLAIM, self.claim)))
        size_bytes = sum(one.nbytes for one in self.arrays.values())
        encode = stored_arrays if is_large(size_bytes) else encode_arrays
        records[m.ARRAYS] = encode(self.arrays)
        records[m.METRICS] = MetricRecord(
            values(
                (NUM_EXAMPLES, self.num_examples),
                (LOCAL_STEPS, self.local_steps),
                (TRAIN_LOSS, self.train_loss),
            )
        )
        return Content(records)

    @classmethod
    def from_records(
        cls, content: Content, layout: Layout, records: Mapping[str, Layout], private: bool
    ) -> TrainReply:
        """The reply to a request whose arrays were of ``layout``, checked but for its claim; arrays
        are decoded when they are looked at.

        records : layouts of the further ones that it must have
        private : whether it has a claim, and no loss

        Raises ReplyRefused: a reply is refused as a whole.
        """
        came = Came(content, REPLY)
        came.only({m.ARRAYS, m.METRICS, *records, *([m.PRIVACY] if private else [])})
        metrics = content[m.METRICS]
        if not isinstance(metrics, MetricRecord):
            raise ReplyRefused(f"record '{m.METRICS}' is not a metric record")
        names = [m.NUM_EXAMPLES, m.LOCAL_STEPS] + ([] if private else [m.TRAIN_LOSS])
        if set(metrics) != set(names):
            raise ReplyRefused(f"its metrics are not {', '.join(names)}")
        examples, steps = came.take(NUM_EXAMPLES), came.take(LOCAL_STEPS)
        if steps == 0:
            raise ReplyRefused(f"{m.LOCAL_STEPS} is 0: it did not train")
        loss = None if private else TRAIN_LOSS.kind.take(metrics[m.TRAIN_LOSS])
        if loss is None and not private:
            raise ReplyRefused(f"{m.TRAIN_LOSS} is not a finite number; lower training.lr?")
        claim = content.get(m.PRIVACY)
        given = claim.get(CLAIM.key) if isinstance(claim, ConfigRecord) else None
        return cls(
            _arrays(content, m.ARRAYS, layout),
            examples,
            steps,
            loss,
            {name: _arrays(content, name, part) for name, part in records.items()},
            given if isinstance(given, bytes) else None,
        )

    @staticmethod
    def leaves(
        secure: SecureAggregationTable,
        privacy: PrivacyTable,
        own: Iterable[str],
        moved: Protection,
    ) -> list[Leaf]:
        """What leaves besides arrays of the model's layout.

        own : coordinates that the masked vector of every update has
        moved : what protects what is trained
        """
        leaves: list[Leaf] = []
        if secure.enabled:
            leaves = [message_leaf(m.TRAIN), *own_leaves(m.TRAIN, own)]
        else:
            counts: Protection = "sizes"
            if privacy.enabled:  # of noised sizes; else always 1
                counts = "noised" if privacy.stepwise else "keys"
            leaves = [value.leaf(m.TRAIN, counts) for value in (NUM_EXAMPLES, LOCAL_STEPS)]
            if not privacy.enabled:
                leaves.append(TRAIN_LOSS.leaf(m.TRAIN, "none"))
        if privacy.enabled:
            claim = MASKED_CLAIM if secure.enabled else CLAIM
            leaves.append(claim.leaf(m.TRAIN, "keys", None))
        if adapts(privacy):
            leaves += arrays_leaves(m.QUANTILE, QUANTILE_LAYOUT[m.QUANTILE], lambda name: moved)
        return leaves


def claim_in(content: Content) -> bytes | None:
    """The claim in a training reply, masked or not; None where it has none."""
    for value in (CLAIM, MASKED_CLAIM):
        record = content.get(value.record)
        if isinstance(record, ConfigRecord) and value.key in record:
            return value.kind.take(record[value.key])
    return None


def adapts(privacy: PrivacyTable) -> bool:
    """Whether the server moves the clipping norm, by a coordinate of each reply."""
    return privacy.enabled and privacy.clipping == "adaptive" and not privacy.stepwise


def arrays_leaves(
    record: str, layout: Layout, protection: Callable[[str], Protection]
) -> list[Leaf]:
    """A training reply's arrays of this layout. ``protection``: of each by its name."""
    return [
        leaf_of(m.TRAIN, record, name, *spec, protection(name)) for name, spec in layout.items()
    ]


def open_leaf(record: str, protection: Protection) -> Leaf:
    """All arrays of a record whose layout isn't known yet."""
    return leaf_of(m.TRAIN, record, ANY, None, "any", protection)


def _arrays(content: Content, name: str, layout: Layout) -> Mapping[str, NDArray[Any]]:
    record = content.get(name)
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused(f"record '{name}' is not an array record")
    return checked_arrays(record, layout)
