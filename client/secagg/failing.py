"""What a masked request gets where this hospital's rows allow no answer: noise, and no reason.

Model and totals are the server's. That they fail on a hospital's rows is an answer to a question
about these rows, so nobody may see it of one hospital: its vector is as long as ever, random, and
adds 1 to a count of failures that is opened as a sum only. That count is all that the sum tells
then: with zeros, a model that fails at all but one hospital would open that one's numbers. The
reason is for the hospital's own log. What is wrong with the request itself is told as ever: it was
checked before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from wardround.client.data.hospital import Hospital
from wardround.client.secagg.contributions import OtherThanBefore
from wardround.client.secagg.upload import PendingUpload
from wardround.common.errors import Interrupted, WardroundError, reason_of
from wardround.common.figures.sums import Sums
from wardround.common.flower.stored import kept_bytes
from wardround.common.protocol.masked import MaskedReply
from wardround.common.protocol.message import Content

log = logging.getLogger("wardround.client")
T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]


def hiding_failures(
    pending: PendingUpload,
    hospital: Hospital,
    answer: Callable[[], Content],
    instead: Callable[[], Content] | None = None,
) -> Content:
    """``answer()``; where that fails, whatever the reason, ``instead()``, by default ``hidden``.

    A simulated hospital's reader wants the reason, and has all rows: there it is raised.

    Raises only what ends the program, what is wrong with the request itself, or what ``instead``
    raises.
    """
    return hiding(hospital, pending.task.purpose, answer, instead or (lambda: hidden(pending)))


def hiding(hospital: Hospital, purpose: str, work: Callable[[], T], instead: Callable[[], T]) -> T:
    """The same of any work on rows whose failure nobody else may see: ``hiding_failures``."""
    try:
        return work()
    except (Interrupted, OtherThanBefore):
        raise
    except Exception as error:
        if hospital.tells_failures:
            raise
        note_failure(hospital, purpose, error)
    return instead()


def or_zeros(hospital: Hospital, purpose: str, sums: Callable[[], Sums], shapes: Shapes) -> Sums:
    """``sums()``, whose noise leaves whatever happens; zeros of these shapes where that fails: of
    plain sums under privacy, as ``hiding_failures`` of masked ones."""
    try:
        return sums()
    except Interrupted:
        raise
    except Exception as error:
        if hospital.tells_failures:
            raise
        note_failure(hospital, purpose, error)
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def hidden(pending: PendingUpload) -> Content:
    """The reply of a hospital that adds to the counts of hospitals and of failures, and keeps all
    else of the sum from being opened: fewer would be alone in it."""
    header, vector = pending.fail()
    return MaskedReply(header, kept_bytes(vector)).to_records()


def note_failure(hospital: Hospital, purpose: str, error: Exception) -> None:
    """Write down, at the hospital alone, why it added nothing."""
    reason = reason_of(error)
    log.warning(
        "%s: nothing was contributed to '%s', which only this log says: %s",
        hospital.name,
        purpose,
        reason,
    )
    hospital.on_failure(purpose, reason)
    if not isinstance(error, WardroundError):
        log.debug("a failure that the server doesn't see", exc_info=error)
