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
    hospitals: dict[str, list[str]] = {}  # of a mistake in the study all say the same
    for one in refused:
        hospitals.setdefault(_reason(one), []).append(one["hospital"])
    told = [(_names(names), reason) for reason, names in list(hospitals.items())[:_MOST]]
    (who, first), *others = told
    lines = [first, *(f"{names}: {reason}" for names, reason in others)]
    more = f" (and {len(hospitals) - _MOST} more)" if len(hospitals) > _MOST else ""
    return RoundFailed(f"{'; '.join(lines)}{more} ({what})", who=who)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{', '.join(names[:_MOST])}{more}"


def _reason(refusal: Mapping[str, str]) -> str:
    return refusal["reason"].removeprefix(FAILED)
