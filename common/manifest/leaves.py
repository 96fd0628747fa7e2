"""What leaves a hospital in each mode, message by message: the leaves of a run manifest.

Both sides work them out from the same settings, so a hospital sees at once if a server's manifest
promises something else than the hospital's own program would do.

| message        | in plain                                 | with secure aggregation       |
|----------------|------------------------------------------|-------------------------------|
| query.describe | name, warnings, sizes, device            | name, sizes, device           |
| hello ... keys |                                          | keys, shares, signatures      |
| query.layout   |                                          | names and shapes of sums      |
| statistics     | sums of any name                         | one masked vector of them     |
| train          | arrays, the strategy's records, metrics  | one masked vector of all that |
| evaluate       | metric sums of any name                  | one masked vector of them     |
| query.unmask   |                                          | shares of masks               |

With privacy: sizes carry noise (but for unit 'hospital', where they are 0 or 1), training replies
have no loss and a signed claim; what is trained is noised before it leaves, but for 'central'
noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wardround.common.flower.arrays import ArraySpec, Layout
from wardround.common.manifest.manifest import ANY, Leaf, Protection
from wardround.common.protocol import names as m
from wardround.common.secagg.content import LOSS, STEPS, training_layout
from wardround.common.secagg.encoding import OWN_NAMES
from wardround.common.secagg.ring import EXACT_BYTES, word_type
from wardround.common.tables import PrivacyTable, SecureAggregationTable

DESCRIPTION = "describe"
HOSPITAL, WARNINGS, DEVICE = "hospital", "warnings", "device"
DEVICES = ("cpu", "cuda")
"""All that is told of a hospital's machine; another kind isn't told."""
MOST_WARNINGS, MOST_WARNING_CHARACTERS = 20, 2000
_KEY_MESSAGES = (m.HELLO, m.GROUP, m.KEYS, m.UNMASK)
_QUANTILE = ArraySpec((1,), "float32")


def preparation_leaves(
    secure: SecureAggregationTable,
    privacy: PrivacyTable,
    records: Sequence[str] = (),
    statistics: bool = True,
) -> tuple[Leaf, ...]:
    """Stage 1: everything, with one leaf '*' for each record of the model's arrays.

    Parameters
    ----------
    records : the strategy's further array records, which mirror the parameters
    statistics : whether the task has sums to prepare data from
    """
    leaves = _describe(secure, privacy)
    if secure.enabled:
        leaves += [_message(kind, "keys") for kind in _KEY_MESSAGES]
        leaves.append(_message(m.LAYOUT, "sizes"))
    if statistics:
        leaves += _sums(m.STATISTICS, secure)
    leaves += _train_fixed(secure, privacy)
    moved = moved_protection(secure, privacy)
    leaves += [_leaf(m.TRAIN, name, ANY, None, "any", moved) for name in (m.ARRAYS, *records)]
    if secure.enabled:
        leaves.append(_vector(m.TRAIN, None, moved))
    return (*leaves, *_sums(m.EVALUATE, secure))


def training_leaves(
    secure: SecureAggregationTable,
    privacy: PrivacyTable,
    layout: Layout,
    parameters: Iterable[str],
    records: Mapping[str, Layout],
) -> tuple[Leaf, ...]:
    """What stage 2 has in place of the open leaves.

    Parameters
    ----------
    layout : the model's shared arrays
    parameters : those of them that optimisers move
    records : the strategy's further records
    """
    parameters = set(parameters)
    moved, still = moved_protection(secure, privacy), still_protection(secure)
    leaves = [
        _leaf(m.TRAIN, m.ARRAYS, name, *spec, moved if name in parameters else still)
        for name, spec in layout.items()
    ]
    leaves += [
        _leaf(m.TRAIN, record, name, *spec, moved)
        for record, part in records.items()
        for name, spec in part.items()
    ]
    if secure.enabled:
        quantile = {m.QUANTILE: {m.QUANTILE: _QUANTILE}} if _adapts(privacy) else {}
        vector = training_layout(layout, parameters, {**records, **quantile})
        size_bytes = vector.update_size * word_type(secure.bits).itemsize
        leaves.append(_vector(m.TRAIN, size_bytes + vector.exact_size * EXACT_BYTES, moved))
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


def _adapts(privacy: PrivacyTable) -> bool:
    return privacy.enabled and privacy.clipping == "adaptive" and not privacy.stepwise


def _describe(secure: SecureAggregationTable, privacy: PrivacyTable) -> list[Leaf]:
    shown = not (secure.enabled or privacy.enabled)
    lines = (MOST_WARNINGS, MOST_WARNING_CHARACTERS) if shown else (0, 0)
    sizes: Protection = "noised" if privacy.unit in ("example", "patient") else "sizes"
    return [
        _leaf(m.DESCRIBE, DESCRIPTION, HOSPITAL, (64,), "text", "keys"),
        _leaf(m.DESCRIBE, DESCRIPTION, DEVICE, (max(map(len, DEVICES)),), "text", "keys"),
        _leaf(m.DESCRIBE, DESCRIPTION, WARNINGS, lines, "texts", "none" if shown else "keys"),
        *(_leaf(m.DESCRIBE, m.SIZES, split, (), "int", sizes) for split in m.SPLITS),
    ]


def _train_fixed(secure: SecureAggregationTable, privacy: PrivacyTable) -> list[Leaf]:
    """What a training reply holds besides arrays of the model's layout."""
    leaves: list[Leaf] = []
    if secure.enabled:
        leaves = [_message(m.TRAIN, "keys"), *_own(m.TRAIN, (*OWN_NAMES, LOSS, STEPS))]
    else:
        counts: Protection = "sizes"
        if privacy.enabled:  # of noised sizes; else always 1
            counts = "noised" if privacy.stepwise else "keys"
        for key in (m.NUM_EXAMPLES, m.LOCAL_STEPS):
            leaves.append(_leaf(m.TRAIN, m.METRICS, key, (), "int", counts))
        if not privacy.enabled:
            leaves.append(_leaf(m.TRAIN, m.METRICS, m.TRAIN_LOSS, (), "float", "none"))
    if privacy.enabled:
        record = m.SECAGG if secure.enabled else m.PRIVACY
        leaves.append(_leaf(m.TRAIN, record, m.CLAIM, None, "bytes", "keys"))
    if _adapts(privacy):
        moved = moved_protection(secure, privacy)
        leaves.append(_leaf(m.TRAIN, m.QUANTILE, m.QUANTILE, *_QUANTILE, moved))
    return leaves


def _sums(message_type: str, secure: SecureAggregationTable) -> list[Leaf]:
    """Sums whose names are known only when they leave."""
    if not secure.enabled:
        return [_leaf(message_type, m.ARRAYS, ANY, None, "float64", "none")]
    return [
        _message(message_type, "keys"),
        _vector(message_type, None, "masked"),
        *_own(message_type, OWN_NAMES),
        _leaf(message_type, m.ARRAYS, ANY, None, "float64", "masked"),
    ]


def _own(message_type: str, names: Iterable[str]) -> list[Leaf]:
    """Single numbers inside the masked vector."""
    return [_leaf(message_type, m.SECAGG, name, (1,), "float64", "masked") for name in names]


def _message(message_type: str, protection: Protection) -> Leaf:
    return _leaf(message_type, m.SECAGG, m.MESSAGE, None, "bytes", protection)


def _vector(message_type: str, size_bytes: int | None, protection: Protection) -> Leaf:
    shape = None if size_bytes is None else (size_bytes,)
    return _leaf(message_type, m.SECAGG, m.VECTOR, shape, "bytes", protection)


def _leaf(
    message_type: str,
    record: str,
    name: str,
    shape: tuple[int, ...] | None,
    dtype: str,
    protection: Protection,
) -> Leaf:
    return Leaf(
        message_type=message_type,
        record=record,
        name=name,
        shape=shape,
        dtype=dtype,  # type: ignore[arg-type]  # checked by the model
        protection=protection,
    )
