"""Why a step failed, in the order in which people need it: the hospital, its reason, what follows.

A fault of a hospital's data is mended there. Its message never advises a smaller
``secure_aggregation.min_cohort``, or no masks: that would take protection from everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wardround.common.errors import RoundFailed
from wardround.common.protocol.errors import FAILED

_MOST = 3


def round_failed(what: str, refused: Sequence[Mapping[str, str]]) -> RoundFailed:
    """The error of a step that ``what`` happened to since hospitals refused, the first one first.

    refused : 'hospital' and 'reason' of each, as a round's row has them
    """
    if not refused:
        return RoundFailed(what)
    first, *others = refused[:_MOST]
    lines = [_reason(first), *(f"{one['hospital']}: {_reason(one)}" for one in others)]
    more = f" (and {len(refused) - _MOST} more)" if len(refused) > _MOST else ""
    return RoundFailed(f"{'; '.join(lines)}{more} ({what})", who=first["hospital"])


def _reason(refusal: Mapping[str, str]) -> str:
    return refusal["reason"].removeprefix(FAILED)
