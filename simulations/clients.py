"""The clients of a simulation: their app, their hospitals, what they remember, who of them fails.

Executors and worker processes run these clients; the grid only carries messages to and fro.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from wardround.client.app import create_client_app
from wardround.client.data.hospital import Hospital
from wardround.client.privacy.sizes import announced_rows
from wardround.client.requests.received import ModelCache
from wardround.client.state import ClientState
from wardround.common.errors import ReplyRefused, reason_of
from wardround.common.flower.hosting import RUN_ID, error_reply, own_copy, timestamp
from wardround.common.text import one_line

Interceptor = Callable[[Message, str], str | None]
OpenHospital = Callable[[Context], Hospital]


class Clients:
    """Clients by node id: 1, 2, ... in the order of their names, which is that of partition ids.

    Parameters
    ----------
    app : the clients' app; None for our own, on ``hospitals``
    hospitals : opens the hospital of a context, for executors that do more than call the app
    run_config : the run configuration that every context carries
    intercept : may return a reason why a client fails instead of answering a message (dropouts)
    keep : how many clients something may be kept of; None: all

    Attributes
    ----------
    models : the model that all of them share
    settled_elsewhere : whether what a group pays for its privacy was paid where the group was asked
    ours : whether they run our own app, so that executors may do what it does in other ways

    Raises ValueError without app and hospitals.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        app: ClientApp | None = None,
        hospitals: OpenHospital | None = None,
        run_config: dict[str, str] | None = None,
        intercept: Interceptor | None = None,
        keep: int | None = None,
    ) -> None:
        self.names, self.keep = names, keep
        self.models = ModelCache()
        self.ours = app is None
        self.settled_elsewhere = False
        self._open = hospitals
        if app is None:
            if hospitals is None:
                raise ValueError("clients need an app or hospitals")
            app = create_client_app(hospitals, self.models, reason_of)
        self._app = app
        self._run_config = dict(run_config or {})
        self._intercept: Interceptor = intercept or _nobody
        self._states: dict[str, RecordDict] = {}
        self._hospitals: dict[int, Hospital] = {}
        self._announced: dict[int, int] = {}

    # --- who they are -------------------------------------------------------------------------
    def name(self, node_id: int) -> str:
        """The client's name. Raises ReplyRefused for an unknown node."""
        if not 1 <= node_id <= len(self.names):
            raise ReplyRefused(f"there is no node {node_id}")
        return self.names[node_id - 1]

    def hospital(self, node_id: int) -> Hospital:
        """The client's hospital, of clients that were given hospitals."""
        hospital = self._hospitals.get(node_id)
        if hospital is None:
            assert self._open is not None  # asked by executors, of clients with our own app
            hospital = self._open(self._context(node_id, self.name(node_id)))
            if self.keep is None:  # else whoever makes them knows how many to keep
                self._hospitals[node_id] = hospital
        return hospital

    def announced(self, node_id: int) -> int:
        """What the client's update counts for: rows or units that it trains on, as it has announced
        them; in a private run drawn once, and paid for."""
        found = self._announced.get(node_id)
        if found is None:
            found = announced_rows(self.hospital(node_id))
            if self.keep is None:
                self._announced[node_id] = found
        return found

    # --- what they answer ---------------------------------------------------------------------
    def answer(self, message: Message) -> Message:
        """The app's reply to a message for one client, or the reason of one that fails."""
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
        """Why this client fails instead of answering; None if it doesn't. To ask is an attempt."""
        return self._intercept(message, self.name(node_id))

    def failures(
        self,
        kind: str,
        server_round: int,
        names: Sequence[str],
        message: Message | None = None,
    ) -> dict[str, str]:
        """Why clients fail that are asked together, by name.

        kind : of the message; ``message``: the one itself, where there is one
        """
        many = getattr(self._intercept, "failures", None)
        if many is not None:
            found: dict[str, str] = many(kind, server_round, names)
            return found
        if message is None:
            return {}
        reasons = ((name, self._intercept(message, name)) for name in names)
        return {name: reason for name, reason in reasons if reason}

    def answer_always(self) -> None:
        """From now on nobody fails: who does was decided elsewhere, and what groups pay was paid
        there."""
        self._intercept, self.settled_elsewhere = _nobody, True

    # --- what they remember -------------------------------------------------------------------
    def state(self, node_id: int) -> ClientState:
        """What the client remembers."""
        return ClientState(self.state_records(node_id))

    def state_records(self, node_id: int) -> RecordDict:
        """The same, as it is stored."""
        return self._states.setdefault(self.name(node_id), RecordDict())

    def set_state_records(self, node_id: int, records: RecordDict) -> None:
        """Let the client remember this."""
        self._states[self.name(node_id)] = records

    def states(self) -> dict[str, RecordDict]:
        """The states of clients that keep any, by hospital; live objects."""
        self._states = {name: state for name, state in self._states.items() if state}
        return dict(self._states)

    def set_states(self, states: dict[str, RecordDict]) -> None:
        """Replace what all clients remember, as after a restart."""
        self._states = dict(states)

    def _context(self, node_id: int, name: str) -> Context:
        return Context(
            run_id=RUN_ID,
            node_id=node_id,
            node_config={
                "hospital": name,
                "partition-id": node_id - 1,
                "num-partitions": len(self.names),
            },
            state=self._states.get(name, RecordDict()),
            run_config=dict(self._run_config),
        )


def _nobody(message: Message, name: str) -> str | None:
    return None
