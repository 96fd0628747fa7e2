"""The messages of secure aggregation between a gatherer and its hospitals.

One place where requests are made, answers are checked for their form, and traffic and refusals are
counted; what an answer means is the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from wardround.common.config.load import Config
from wardround.common.errors import ReplyRefused, RoundFailed
from wardround.common.protocol import names as m
from wardround.common.secagg.content import encode_sums_layout, sums_layout
from wardround.common.secagg.encoding import OWN_NAMES
from wardround.common.tasks.base import Task
from wardround.server.gathering.fitting import unused_sums
from wardround.server.gathering.plain import Gatherer, refusal, sizes
from wardround.server.gathering.replies import check_error
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.server.secagg.journal import Traffic
from wardround.server.strategies import StrategyPlan


class SecureMessages(Gatherer):
    """A gatherer that speaks secure aggregation. ``traffic`` is that of the present step."""

    def __init__(
        self, grid: Grid, config: Config, task: Task[Any], plan: StrategyPlan, observer: Observer
    ) -> None:
        super().__init__(grid, config, task, plan, observer)
        self.traffic = Traffic()

    def agree_layout(
        self,
        requests: list[Message],
        members: Sequence[Member],
        everyone: bool = True,
        fitting: bool = False,
        splits: Sequence[str] | None = None,
    ) -> bytes:
        """Names and shapes of the members' sums together; of a name the shape that most have.

        everyone : whether all must be in it. Then raises RoundFailed, naming one that isn't; else
        if nobody is.
        fitting : whether to leave out sums that nobody uses. Then raises Unfit for hospitals that
        don't fit the others.
        splits : of metric sums, those to ask for; by default all
        """
        found: dict[str, dict[str, tuple[int, ...]]] = {}

        def keep(name: str, answer: ConfigRecord) -> None:
            parts = sums_layout(data_of(answer, m.MESSAGE)).exact.items()
            found[name] = {
                key: spec.shape
                for key, spec in parts
                if key not in OWN_NAMES and (splits is None or key.partition("/")[0] in splits)
            }

        before = len(self.traffic.refused)
        self.ask(requests, members, "layout", keep)
        shapes = _usual_shapes([found[name] for name in sorted(found)])
        for name, own in sorted(found.items()):
            if odd := [key for key in own if own[key] != shapes[key]]:
                error = ReplyRefused(f"its sum '{odd[0][:100]}' has another shape than the others'")
                self.traffic.refused.append(refusal(name, "layout", error))
                self.observer.replied(name, "layout", str(error))
        refused = self.traffic.refused[before:]
        if refused and (everyone or len(refused) == len(members)):
            raise RoundFailed(f"{refused[0]['hospital']}: {refused[0]['reason']}")
        if fitting:
            keys = {name: frozenset(own) for name, own in sorted(found.items())}
            for key in unused_sums(self.task, keys, self.observer):
                del shapes[key]
        return encode_sums_layout(shapes)

    def messages(
        self,
        message_type: str,
        members: Sequence[Member],
        data: Mapping[str, bytes],
        config: Mapping[str, Any] | None = None,
    ) -> list[Message]:
        """A message of the protocol to each member that ``data`` has one for."""
        messages = []
        for member in members:
            if member.name in data:
                content = RecordDict({m.SECAGG: ConfigRecord({m.MESSAGE: data[member.name]})})
                content[m.CONFIG] = ConfigRecord(dict(config or {}))
                messages.append(Message(content, member.node_id, message_type))
        return messages

    def ask(
        self,
        requests: list[Message],
        members: Sequence[Member],
        step: str,
        use: Callable[[str, ConfigRecord], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send, use each answer's record as it arrives, and note who failed."""
        self.traffic.down += sizes(requests)
        for member, _, reply in self.exchange(requests, members, enough):
            if reply is None and enough():
                continue  # not waited for, so not refused
            try:
                reply = self.in_time(reply)
                self.traffic.up += sizes([reply]) if reply.has_content() else 0
                check_error(reply)
                record = reply.content.get(m.SECAGG)
                if not isinstance(record, ConfigRecord) or len(reply.content) != 1:
                    raise ReplyRefused("its answer is not one of secure aggregation")
                use(member.name, record)
                self.observer.replied(member.name, step, None)
            except ReplyRefused as error:
                self.note_spent(member.name, error)
                self.traffic.refused.append(refusal(member.name, step, error))
                self.observer.replied(member.name, step, str(error))
            reply = record = None  # else its vector would stay while the next one is read


def _usual_shapes(parts: Sequence[Mapping[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Of each name the shape that most parts have; the first one's where as many have another."""
    counts: dict[str, Counter[tuple[int, ...]]] = {}
    for part in parts:
        for key, shape in part.items():
            counts.setdefault(key, Counter())[shape] += 1
    return {key: count.most_common(1)[0][0] for key, count in counts.items()}


def with_message(use: Callable[[str, bytes], None]) -> Callable[[str, ConfigRecord], None]:
    """``use`` for an answer's message alone."""
    return lambda name, record: use(name, data_of(record, m.MESSAGE))


def data_of(record: ConfigRecord, key: str) -> bytes:
    """The bytes under a key of an answer. Raises ReplyRefused if there are none."""
    value = record.get(key)
    if not isinstance(value, bytes):
        raise ReplyRefused(f"its answer lacks '{key}'")
    return value
