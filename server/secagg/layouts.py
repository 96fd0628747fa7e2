"""Which sums hospitals add under masks: names and shapes, agreed on before any number is sent.

A vector has one layout for all who add theirs. A hospital answers with what it has, without a
value; the sums of all are asked for then, and who lacks one refuses (a
statistic) or adds zeros to it (a figure).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from wardround.common.errors import ReplyRefused, RoundFailed
from wardround.common.flower.hosting import Message
from wardround.common.protocol.cohort import CohortKeyReply
from wardround.common.secagg.content import encode_sums_layout, sums_layout
from wardround.server.gathering.fitting import unused_sums
from wardround.server.gathering.gatherer import Question
from wardround.server.gathering.messenger import Refusal
from wardround.server.gathering.requests import as_layout_queries
from wardround.server.members.member import Member
from wardround.server.secagg.messenger import SecureMessenger, with_message

Shapes = dict[str, tuple[int, ...]]


class Layouts:
    """Agrees on layouts of sums, as encoded SumsLayouts."""

    def __init__(self, messenger: SecureMessenger) -> None:
        self._messenger = messenger
        self._metrics: dict[str, bytes] = {}  # by the first split of each

    def of_sums(
        self, requests: list[Message], members: Sequence[Member], question: Question
    ) -> bytes:
        """Of a question's sums, which every member must have a part in; ``question.fits`` says
        which of them nobody uses.

        Raises RoundFailed, naming a hospital that can't answer; with ``fits`` also Unfit for
        hospitals that don't fit the others.
        """
        found = self._ask(requests, members)
        if refused := found.refused:
            raise RoundFailed(f"{refused[0]['hospital']}: {refused[0]['reason']}")
        shapes = found.shapes
        if question.fits is not None:
            unused = unused_sums(question.fits, found.names, self._messenger.observer)
            shapes = {key: shape for key, shape in shapes.items() if key not in unused}
        return encode_sums_layout(shapes, question.words)

    def of_metrics(
        self, requests: list[Message], members: Sequence[Member], splits: Sequence[str]
    ) -> bytes:
        """Of the splits' metric sums, for good once every member is in it: one that can't evaluate
        keeps nobody else from it. Raises RoundFailed if nobody can answer.

        requests : to evaluate
        """
        if splits[0] in self._metrics:
            return self._metrics[splits[0]]
        found = self._ask(as_layout_queries(requests), members, splits)
        if refused := found.refused:
            if len(refused) == len(members):
                raise RoundFailed(f"{refused[0]['hospital']}: {refused[0]['reason']}")
            return encode_sums_layout(found.shapes)
        return self._metrics.setdefault(splits[0], encode_sums_layout(found.shapes))

    def _gather(
        self,
        requests: list[Message],
        members: Sequence[Member],
        keep: Callable[[str, bytes], None],
    ) -> None:
        """Have each member's answer kept; who refuses is told."""
        self._messenger.ask(requests, members, "layout", with_message(keep))

    def _ask(
        self,
        requests: list[Message],
        members: Sequence[Member],
        splits: Sequence[str] | None = None,
    ) -> _Found:
        """What the members have together; of a name the shape that most have.

        splits : of metric sums, those to ask for; by default all
        """
        by_name: dict[str, Shapes] = {}

        def keep(name: str, message: bytes) -> None:
            parts = sums_layout(message).named.items()
            by_name[name] = {
                key: spec.shape
                for key, spec in parts
                if splits is None or key.partition("/")[0] in splits
            }

        before = len(self._messenger.traffic.refused)
        self._gather(requests, members, keep)
        shapes = _usual_shapes([by_name[name] for name in sorted(by_name)])
        for name, own in sorted(by_name.items()):
            if odd := [key for key in own if own[key] != shapes[key]]:
                error = ReplyRefused(f"its sum '{odd[0][:100]}' has another shape than the others'")
                self._messenger.refuse(name, "layout", error)
        names = {name: frozenset(own) for name, own in sorted(by_name.items())}
        return _Found(shapes, names, self._messenger.traffic.refused[before:])


class LayoutsTogether(Layouts):
    """The same, of members that one message asks."""

    def _gather(
        self,
        requests: list[Message],
        members: Sequence[Member],
        keep: Callable[[str, bytes], None],
    ) -> None:
        done = 0
        for asked, content in self._messenger.ask_together(requests, members):
            reply = CohortKeyReply.from_records(content)
            said = {node: one for one, nodes in reply.messages.items() for node in nodes}
            names = self._messenger.note("layout", asked, said, reply.refused)
            by_name = {member.name: member.node_id for member in asked}
            for name in names:
                keep(name, said[by_name[name]])
            done += len(asked)
            if len(requests) > 1:
                text = f"names of sums: {done} of {len(members)} clients"
                self._messenger.observer.progress(text)


class _Found(NamedTuple):
    """Shapes of all sums, the names of each hospital's, and who gave none that can be used."""

    shapes: Shapes
    names: dict[str, frozenset[str]]
    refused: list[Refusal]


def _usual_shapes(parts: Sequence[Mapping[str, tuple[int, ...]]]) -> Shapes:
    """Of each name the shape that most parts have; the first one's where as many have another."""
    counts: dict[str, Counter[tuple[int, ...]]] = {}
    for part in parts:
        for key, shape in part.items():
            counts.setdefault(key, Counter())[shape] += 1
    return {key: count.most_common(1)[0][0] for key, count in counts.items()}
