"""The in-process grid: every client in this process, one after the other. The reference.

Sequential, exact and deterministic: a faster executor must give what this one gives. A client runs
when its reply is pulled, so one reply is in memory at a time, however many clients a round has.
A client's time starts when its turn comes, as it would on a machine of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from wardround.common.hosting import (
    RUN_ID,
    HostGrid,
    error_reply,
    own_copy,
    set_message_id,
    timestamp,
)
from wardround.common.messages import one_line

Interceptor = Callable[[Message, str], str | None]


class InProcessGrid(HostGrid):
    """A Flower ``Grid`` whose nodes are contexts in this process.

    Parameters
    ----------
    client_app : the hospitals' app
    names : hospitals, in the order of their partition ids; node ids are 1, 2, ...
    run_config : the run configuration that every context carries
    intercept : may return a reason why a client fails instead of answering a message (dropouts)
    """

    def __init__(
        self,
        client_app: ClientApp,
        names: Sequence[str],
        run_config: dict[str, str] | None = None,
        intercept: Interceptor | None = None,
    ) -> None:
        super().__init__()
        self._app = client_app
        self._names = list(names)
        self._run_config = dict(run_config or {})
        self._intercept = intercept or (lambda message, name: None)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Message] = {}
        self._states: dict[str, RecordDict] = {}

    # --- Grid --------------------------------------------------------------------------------
    def get_node_ids(self) -> Iterable[int]:
        return range(1, len(self._names) + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message_id = f"message-{next(self._numbers)}"
            set_message_id(message, message_id)
            self._waiting[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        for message_id in message_ids:
            message = self._waiting.pop(message_id, None)
            if message is not None:
                yield self._answer(message)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return list(self.pull_messages(self.push_messages(messages)))

    # --- clients -----------------------------------------------------------------------------
    def _answer(self, message: Message) -> Message:
        index = message.metadata.dst_node_id - 1
        if not 0 <= index < len(self._names):
            return error_reply(message, f"there is no node {message.metadata.dst_node_id}")
        name = self._names[index]
        message.metadata.created_at = timestamp()
        if reason := self._intercept(message, name):
            return error_reply(message, reason)
        try:
            reply = self._app(own_copy(message), self._context(index, name))
        except Exception as error:
            return error_reply(message, one_line(f"{type(error).__name__} in the client app"))
        reply.metadata.created_at = timestamp()
        return reply

    def _context(self, index: int, name: str) -> Context:
        return Context(
            run_id=RUN_ID,
            node_id=index + 1,
            node_config={
                "hospital": name,
                "partition-id": index,
                "num-partitions": len(self._names),
            },
            state=self._states.setdefault(name, RecordDict()),
            run_config=dict(self._run_config),
        )

    # --- what clients remember ---------------------------------------------------------------
    def client_states(self) -> dict[str, RecordDict]:
        """The states of clients that keep any, by hospital; live objects."""
        return {name: state for name, state in self._states.items() if state}

    def set_client_states(self, states: dict[str, RecordDict]) -> None:
        """Replace what clients remember, as after a restart."""
        self._states = dict(states)
