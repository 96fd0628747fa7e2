"""The messages of secure aggregation between the server and its hospitals.

One place where requests are made, answers are checked for their form, and traffic and refusals are
counted; what an answer means is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from wardround.common.errors import ReplyRefused, SharesGiven
from wardround.common.flower.hosting import Message
from wardround.common.protocol.cohort import clients_of
from wardround.common.protocol.masked import KeyReply, KeyRequest
from wardround.common.protocol.message import Content
from wardround.common.text import one_line
from wardround.server.gathering.gatherer import Budgets
from wardround.server.gathering.messenger import Messenger, sizes
from wardround.server.gathering.replies import check_error
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.server.secagg.journal import Traffic


class SecureMessenger:
    """Asks hospitals in the protocol of secure aggregation.

    Attributes
    ----------
    traffic : of the present step of the round loop
    gave_shares : who has refused since it was cleared, having given shares for another sum
    """

    def __init__(self, messenger: Messenger, budgets: Budgets) -> None:
        self._messenger, self._budgets = messenger, budgets
        self.traffic, self.gave_shares = Traffic(), set[str]()

    @property
    def observer(self) -> Observer:
        """Who is told of every reply."""
        return self._messenger.observer

    def evaluating(self, members: Sequence[Member], last: bool) -> list[Member]:
        """As ``Budgets.evaluating``, by all that was refused so far."""
        return self._budgets.evaluating(members, last)

    def begin_step(self) -> Traffic:
        """Count from nothing: a step of the round loop begins."""
        self.traffic = Traffic()
        return self.traffic

    def refuse(self, name: str, step: str, error: Exception) -> None:
        """Note that a hospital's part in a step isn't used, and why."""
        self.traffic.refused.append(self._messenger.tell_refused(name, step, error))

    def messages(
        self,
        message_type: str,
        members: Sequence[Member],
        data: Mapping[str, bytes],
        server_round: int | None = None,
    ) -> list[Message]:
        """A message of the protocol to each member that ``data`` has one for."""
        return [
            Message(
                KeyRequest(data[member.name], server_round).to_records(),
                member.node_id,
                message_type,
            )
            for member in members
            if member.name in data
        ]

    def ask(
        self,
        requests: list[Message],
        members: Sequence[Member],
        step: str,
        use: Callable[[str, Content], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send, use each answer as it arrives, and note who failed.

        use : is given name and the answer's records; raises ReplyRefused for what it won't take
        enough : once true, nobody else is waited for, and who hasn't answered isn't refused
        """
        self.traffic.down += sizes(requests)
        for member, _, reply in self._messenger.exchange(requests, members, enough):
            if reply is None and enough():
                continue  # not waited for, so not refused
            try:
                reply = self._messenger.in_time(reply)
                self.traffic.up += sizes([reply]) if reply.has_content() else 0
                check_error(reply)
                use(member.name, reply.content)
                self._messenger.tell_used(member.name, step)
            except ReplyRefused as error:
                self._budgets.note_refusal(member.name, error)
                if isinstance(error, SharesGiven):
                    self.gave_shares.add(member.name)
                self.refuse(member.name, step, error)
            reply = None  # else its vector would stay while the next one is read

    def ask_together(
        self, requests: list[Message], members: Sequence[Member]
    ) -> Iterator[tuple[list[Member], Content]]:
        """Send requests each of which asks many members, whom one process runs; yields whom, and
        what is answered for them. Raises ReplyRefused where nothing is."""
        by_node = {member.node_id: member for member in members}
        for request in requests:
            asked = [by_node[node] for node in clients_of(request.content)]
            self.traffic.down += (sizes([request]) - 8 * len(asked)) * len(asked)
            ((_, _, reply),) = self._messenger.exchange([request], asked[:1])
            reply = self._messenger.in_time(reply)
            check_error(reply)
            yield asked, reply.content

    def note(
        self,
        step: str,
        asked: Sequence[Member],
        accepted: Collection[int],
        refused: Mapping[int, str],
    ) -> list[str]:
        """Note who of those asked together is in the answer, by node, and why others aren't, in
        their order; names of the first. Raises ReplyRefused for one that wasn't asked."""
        if not {member.node_id for member in asked} >= {*accepted, *refused}:
            raise ReplyRefused("the cohort's reply names a client that wasn't asked")
        used, inside = [], set(accepted)
        for member in asked:
            if member.node_id in refused:
                error = ReplyRefused(one_line(refused[member.node_id]))
                self._budgets.note_refusal(member.name, error)
                self.refuse(member.name, step, error)
            elif member.node_id in inside:
                self._messenger.tell_used(member.name, step)
                used.append(member.name)
        return used


def with_message(use: Callable[[str, bytes], None]) -> Callable[[str, Content], None]:
    """``use`` for the one message that an answer holds."""
    return lambda name, content: use(name, KeyReply.from_records(content).message)
