"""What leaves a hospital in each mode, message by message: the leaves of a run manifest.

Each reply's class (``common/protocol``) says which leaves it has; here they are put together. Both
sides work them out from the same settings, so a hospital sees at once if a server's manifest
promises something else than the hospital's own program would do.

| message        | in plain                                 | with secure aggregation       |
|----------------|------------------------------------------|-------------------------------|
| query.describe | name, warnings, sizes, device            | name, sizes, device           |
| hello ... keys |                                          | keys, shares, signatures      |
| query.layout   |                                          | names and shapes of sums      |
| statistics     | sums of any name                         | one masked vector of them     |
| sums           | sums of any name                         | one masked vector of them     |
| letters        | sealed letters, texts that are told      | the same                      |
| train          | arrays, the strategy's records, metrics  | one masked vector of all that |
| train.begin    | that it is done, in a buffered run       | the same                      |
| evaluate       | metric sums of any name                  | one masked vector of them     |
| query.unmask   |                                          | shares of masks               |
| deal, dealt    |                                          | in a blind run: a sealed key  |
| query.model    |                                          | in it: a digest of the model  |
| query.give     |                                          | in it: the model, sealed      |
| query.take     |                                          | in it: a digest of the model  |

A study has rounds of training (with statistics before, and figures) or sums of another procedure.
With privacy: sizes carry noise (but for unit 'hospital', where they are 0 or 1), training replies
have no loss and a signed claim; what is trained is noised before it leaves, but for 'central'
noise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from wardround.common.compression.scales import layers
from wardround.common.compression.writing import words_layout
from wardround.common.flower.arrays import Layout
from wardround.common.joint.party import COORDINATOR, JointProcedure
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DescribeReply
from wardround.common.protocol.kept import BeginReply
from wardround.common.protocol.leaf import Leaf, Protection
from wardround.common.protocol.letters import LettersReply
from wardround.common.protocol.masked import KeyReply, SealedModel, vector_leaf
from wardround.common.protocol.statistics import sums_leaves
from wardround.common.protocol.sums import SumsReply
from wardround.common.protocol.train import (
    QUANTILE_LAYOUT,
    TrainReply,
    adapts,
    arrays_leaves,
    open_leaf,
)
from wardround.common.secagg.ckks import parameters as parameters_of
from wardround.common.secagg.content import CHECK, LOSS, STEPS, training_layout
from wardround.common.secagg.encoding import OWN_NAMES
from wardround.common.secagg.ring import EXACT_BYTES, word_type
from wardround.common.settings import PrivacyTable, SecureAggregationTable


def preparation_leaves(
    secure: SecureAggregationTable,
    privacy: PrivacyTable,
    records: Sequence[str] = (),
    statistics: bool = True,
    noised: Collection[str] = (),
    buffered: bool = False,
) -> tuple[Leaf, ...]:
    """Stage 1: everything, with one leaf '*' for each record of the model's arrays.

    Parameters
    ----------
    records : the strategy's further array records, which mirror the parameters
    statistics : whether the task has sums to prepare data from
    noised : 'preparation' and 'evaluation', where noise is on these sums
    buffered : whether updates are made before they are sent
    """
    leaves = DescribeReply.leaves(secure, privacy)
    if secure.enabled:
        leaves += KeyReply.leaves(secure.blind)
    if secure.blind:
        leaves += SealedModel.leaves()
    if statistics:
        leaves += sums_leaves(m.STATISTICS, secure, OWN_NAMES, "preparation" in noised)
    if buffered:
        leaves += BeginReply.leaves()
    moved = moved_protection(secure, privacy)
    own = (*OWN_NAMES, LOSS, STEPS, *([CHECK] if secure.blind else []))
    leaves += TrainReply.leaves(secure, privacy, own, moved)
    leaves += [open_leaf(name, moved) for name in (m.ARRAYS, *records)]
    if secure.enabled:
        leaves.append(vector_leaf(m.TRAIN, None, moved))
    return (*leaves, *sums_leaves(m.EVALUATE, secure, OWN_NAMES, "evaluation" in noised))


def procedure_leaves(secure: SecureAggregationTable, privacy: PrivacyTable) -> tuple[Leaf, ...]:
    """Of a procedure that isn't training: who a hospital is, and the sums of its steps."""
    leaves = DescribeReply.leaves(secure, privacy)
    if secure.enabled:
        leaves += KeyReply.leaves()
    return (*leaves, *SumsReply.leaves(secure, privacy, OWN_NAMES))


def joint_leaves(procedure: JointProcedure, privacy: PrivacyTable) -> tuple[Leaf, ...]:
    """Of a joint procedure: who a hospital is, letters to other parties, and what is told."""
    names = [*procedure.parties, *([COORDINATOR] if procedure.has_coordinator else [])]
    letters = LettersReply.leaves(dict.fromkeys(names, procedure.letter_bytes), procedure.told)
    hidden = SecureAggregationTable(enabled=True)
    return (*DescribeReply.leaves(hidden, privacy), *letters)


def training_leaves(
    secure: SecureAggregationTable,
    privacy: PrivacyTable,
    layout: Layout,
    parameters: Iterable[str],
    records: Mapping[str, Layout],
    bits: int | None = None,
) -> tuple[Leaf, ...]:
    """What stage 2 has in place of the open leaves.

    Parameters
    ----------
    layout : the model's shared arrays
    parameters : those of them that optimisers move
    records : the strategy's further records
    bits : of an update's numbers, as ``compression.bits`` says
    """
    parameters = set(parameters)
    moved, still = moved_protection(secure, privacy), still_protection(secure)
    sent = layout if secure.enabled else words_layout(bits, layout, layers(layout, parameters))
    leaves = arrays_leaves(m.ARRAYS, sent, lambda name: moved if name in parameters else still)
    for record, part in records.items():
        leaves += arrays_leaves(record, part, lambda name: moved)
    if secure.enabled:
        quantile = QUANTILE_LAYOUT if adapts(privacy) else {}
        vector = training_layout(layout, parameters, {**records, **quantile}, secure.blind)
        size_bytes = vector.update_size * word_type(bits or secure.bits).itemsize
        if (ckks := parameters_of(secure)) is not None:
            size_bytes = ckks.size_bytes(vector.update_size)
        size_bytes += vector.exact_size * EXACT_BYTES
        leaves.append(vector_leaf(m.TRAIN, size_bytes, moved))
    return tuple(leaves)


def moved_protection(secure: SecureAggregationTable, privacy: PrivacyTable) -> Protection:
    """Of what is trained."""
    noised = privacy.enabled and privacy.noise != "central"
    if secure.enabled:
        return "masked+noised" if noised else "masked"
    return "noised" if noised else "none"


def still_protection(secure: SecureAggregationTable) -> Protection:
    """Of buffers. (Under privacy they leave as they came, which the gate can't see.)"""
    return "masked" if secure.enabled else "none"
