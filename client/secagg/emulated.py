"""A simulated hospital's uploads where masks are emulated: its numbers as ever, no mask on them.

Everything that a hospital's numbers go through is ``upload.py``'s: clipping, rounding, the ring,
the exact section. There are no keys, no shares, and nothing to remember: an aggregation that failed
burns nothing. What is checked of a request is what a hospital with keys checks of it, as far as it
shapes numbers.
"""

from __future__ import annotations

from wardround.client.secagg.asked import Asked
from wardround.client.secagg.upload import PendingUpload
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.emulated import clients_of_group, emulated_limits
from wardround.common.secagg.encoding import VectorLayout
from wardround.common.settings import SecureAggregationTable


class EmulatedClient:
    """A hospital without keys, as an upload needs one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def mark_uploaded(self, task: wire.TaskRequest, asked: Asked) -> None:
        """There is no key that could be used twice."""


def begin_emulated(
    name: str, data: bytes, layout: VectorLayout, asked: Asked, table: SecureAggregationTable
) -> PendingUpload:
    """The upload that a request asks for, without masks.

    data : the TaskRequest
    asked : the request as the hospital itself reads it

    Raises ProtocolRefused for a group with keys, another purpose than the request's, or other terms
    than settings and plan give.
    """
    task = wire.TaskRequest.from_bytes(data)
    clients = clients_of_group(task.group)
    if not asked.step.is_purpose(task.purpose):
        raise ProtocolRefused(f"the task's purpose is not {asked.step.parts[0]}")
    limits = emulated_limits(clients, table)
    encoding = task.encoding(clients)
    asked.terms.check(task, limits)
    return PendingUpload(
        EmulatedClient(name), task, layout, encoding, limits, asked, seeds=lambda: ()
    )
