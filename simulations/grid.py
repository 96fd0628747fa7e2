"""The in-process grid: every client of a simulation, run by the executor that it is given.

A client runs when its reply is pulled. Its time starts when its turn comes, as it would on a
machine of its own. ``executors/sequential.py`` is the reference: what a faster executor gives must
be what that one gives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from wardround.client.app import create_client_app
from wardround.client.data.hospital import Hospital
from wardround.client.requests.received import ModelCache
from wardround.client.state import ClientState
from wardround.common.errors import ReplyRefused
from wardround.common.flower.hosting import (
    RUN_ID,
    HostGrid,
    error_reply,
    own_copy,
    set_message_id,
    timestamp,
)
from wardround.common.text import one_line
from wardround.server.members.lazy import VirtualMembers

Interceptor = Callable[[Message, str], str | None]
OpenHospital = Callable[[Context], Hospital]


class RunsClients(Protocol):
    """What the grid asks of an executor (``executors/base.py``)."""

    def answers(self, messages: Iterable[Message], host: InProcessGrid, /) -> Iterator[Message]:
        """A reply to each message, in their order."""


class InProcessGrid(HostGrid):
    """A Flower ``Grid`` whose nodes are contexts in this process.

    Parameters
    ----------
    names : hospitals, in the order of their partition ids; node ids are 1, 2, ...
    app : the hospitals' app; None for our own, on ``hospitals``
    hospitals : opens the hospital of a context, for executors that do more than call the app
    executor : runs the clients; None: the app answers one message after the other
    run_config : the run configuration that every context carries
    intercept : may return a reason why a client fails instead of answering a message (dropouts)
    members : whom the server has as members without asking them: a virtual population
    keep : how many clients executors may keep something of; None: all, and so does the grid
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        app: ClientApp | None = None,
        hospitals: OpenHospital | None = None,
        executor: RunsClients | None = None,
        run_config: dict[str, str] | None = None,
        intercept: Interceptor | None = None,
        members: VirtualMembers | None = None,
        keep: int | None = None,
    ) -> None:
        super().__init__()
        self.models = ModelCache()
        self._open = hospitals
        self.answers_cohorts = False
        if app is None:
            if hospitals is None:
                raise ValueError("a grid needs an app or hospitals")
            app = create_client_app(hospitals, self.models, str)
            self.answers_cohorts = True  # by our own code, which does what this app does
        self._app, self._executor = app, executor
        self._names, self.members, self.keep = names, members, keep
        self._run_config = dict(run_config or {})
        self._intercept = intercept or (lambda message, name: None)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Message] = {}
        self._states: dict[str, RecordDict] = {}
        self._hospitals: dict[int, Hospital] = {}

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
        found = (self._waiting.pop(message_id, None) for message_id in list(message_ids))
        messages = (message for message in found if message is not None)
        if self._executor is None:
            return map(self.answer, messages)
        return self._executor.answers(messages, self)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return list(self.pull_messages(self.push_messages(messages)))

    # --- what an executor needs: the protocol Host -------------------------------------------
    def answer(self, message: Message) -> Message:
        """The app's reply to a message for one client."""
        node_id = message.metadata.dst_node_id
        message.metadata.created_at = timestamp()
        try:
            name = self.name(node_id)
        except ReplyRefused as error:
            return error_reply(message, str(error))
        if reason := self._intercept(message, name):
            return error_reply(message, reason)
        context = self._context(node_id, name)
        try:
            reply = self._app(own_copy(message), context)
        except Exception as error:
            return error_reply(message, one_line(f"{type(error).__name__} in the client app"))
        if context.state:
            self._states[name] = context.state
        reply.metadata.created_at = timestamp()
        return reply

    def failure(self, message: Message, node_id: int) -> str | None:
        return self._intercept(message, self.name(node_id))

    def failures(self, message: Message, server_round: int, names: Sequence[str]) -> dict[str, str]:
        many = getattr(self._intercept, "failures", None)
        if many is not None:
            found: dict[str, str] = many(message.metadata.message_type, server_round, names)
            return found
        reasons = ((name, self._intercept(message, name)) for name in names)
        return {name: reason for name, reason in reasons if reason}

    def name(self, node_id: int) -> str:
        if not 1 <= node_id <= len(self._names):
            raise ReplyRefused(f"there is no node {node_id}")
        return self._names[node_id - 1]

    def hospital(self, node_id: int) -> Hospital:
        hospital = self._hospitals.get(node_id)
        if hospital is None:
            assert self._open is not None  # asked by executors that were given hospitals
            hospital = self._open(self._context(node_id, self.name(node_id)))
            if self.keep is None:  # else whoever makes them knows how many to keep
                self._hospitals[node_id] = hospital
        return hospital

    def state(self, node_id: int) -> ClientState:
        return ClientState(self.state_records(node_id))

    def state_records(self, node_id: int) -> RecordDict:
        return self._states.setdefault(self.name(node_id), RecordDict())

    def set_state_records(self, node_id: int, records: RecordDict) -> None:
        self._states[self.name(node_id)] = records

    def intercepts_nothing(self) -> None:
        """From now on every client answers."""
        self._intercept = lambda message, name: None

    def _context(self, node_id: int, name: str) -> Context:
        return Context(
            run_id=RUN_ID,
            node_id=node_id,
            node_config={
                "hospital": name,
                "partition-id": node_id - 1,
                "num-partitions": len(self._names),
            },
            state=self._states.get(name, RecordDict()),
            run_config=dict(self._run_config),
        )

    # --- what clients remember ---------------------------------------------------------------
    def client_states(self) -> dict[str, RecordDict]:
        """The states of clients that keep any, by hospital; live objects."""
        self._states = {name: state for name, state in self._states.items() if state}
        return dict(self._states)

    def set_client_states(self, states: dict[str, RecordDict]) -> None:
        """Replace what clients remember, as after a restart."""
        self._states = dict(states)
