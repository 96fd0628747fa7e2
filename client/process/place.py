"""Where a study is computed: its hospital, its app, what they remember, and the data they read.

What decides (rules, approval, gate) and what keeps promises (answers, audit log) stands before it
and is the process's. A place is asked for one thing at a time, by one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wardround.client.data.plan import Plan
from wardround.client.data.watch import DataWatch, Lines
from wardround.client.data.witness import Witness
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.process.workplace import Workplace
from wardround.client.requests.own_model import FOLDER
from wardround.client.results.own import own_figures
from wardround.client.site.terms import Terms
from wardround.client.sources.kept import KeptData
from wardround.client.state import ClientState
from wardround.common.durable.records import DurableState
from wardround.common.flower.hosting import CLIENT_NODE_ID, Context, Message, become_client
from wardround.common.manifest.manifest import Manifest
from wardround.common.protocol.model import round_of
from wardround.common.protocol.names import LETTERS, TRAIN

STORE, DATA = "store", "data.json"
"""In a study's state folder: what the hospital has promised, and which rows its run began with."""


class Place(Protocol):
    """The computing part of one study."""

    def take_up(self, terms: Terms) -> str:
        """Let these terms hold. Gives what differs from the last ones; '' if they are the same.
        Raises WardroundError if nothing can be made of them."""

    def begin(self, run: str) -> None:
        """A run begins or goes on: the data are the present ones. Raises DataError."""

    def accepted(self, manifest: Manifest) -> None:
        """The plan that all is done by from now on."""

    def units(self) -> int | None:
        """How many protected units the hospital says that it trains on; None without privacy."""

    def answer(self, message: Message) -> Message:
        """The reply to a request. What it promises is on disk when this returns, whatever the
        reply is. Raises WardroundError, OSError if it can't be kept."""

    def figures(self, folder: Path) -> None:
        """Work out the hospital's own figures of the results in a folder, and write them there.
        Raises WardroundError, OSError if they can't be had."""

    def close(self) -> None:
        """End the processes that compute, and release what is held."""


@dataclass(frozen=True)
class Surroundings:
    """What a place has of its hospital's process.

    audit : takes lines on the data that were read, and on links
    witness : who knows how far the hospital's ledger had come
    outward : what may leave of an error
    on_failure : is told purpose and reason of a failure that the server doesn't see
    """

    audit: Lines
    witness: Witness
    outward: Callable[[Exception], str]
    on_failure: Callable[[str, str], None]


class OwnPlace:
    """A place in this process.

    Parameters
    ----------
    folder : the study's state

    Raises WardroundError, also for a mistake in the data, which are read at once.
    """

    def __init__(self, terms: Terms, folder: Path, around: Surroundings) -> None:
        self._name = terms.kit.name
        model = (terms.kit.folder if terms.study is None else folder) / FOLDER
        self._data = KeptData(folder)
        self.work = Workplace(
            terms,
            self._data,
            model,
            around.witness,
            around.outward,
            around.on_failure,
            around.audit,
        )
        self._watch = DataWatch(
            lambda: self._data.path, lambda: self.work.hospital, around.audit, folder / DATA
        )
        self._state = DurableState(folder / STORE)
        become_client()

    def take_up(self, terms: Terms) -> str:
        return self.work.take_up(terms)

    def begin(self, run: str) -> None:
        self._data.begin(run)
        self._watch.begin(run)

    def accepted(self, manifest: Manifest) -> None:
        self.work.hospital.plan = Plan.accepted(manifest)
        ClientState(self._state.records).begin_run(manifest.run)
        self._state.save()

    def units(self) -> int | None:
        """What a plan may cost, and so whether it is refused, is told: so they are the announced
        ones."""
        hospital = self.work.hospital
        return announced_sizes(hospital)["train"] if hospital.config.privacy.enabled else None

    def answer(self, message: Message) -> Message:
        self.work.look_again()
        reply = self.work.app(message, self._context())
        if message.metadata.message_type == TRAIN and not reply.has_error():
            self.work.note_trained(round_of(message.content))
        if message.metadata.message_type == LETTERS and not reply.has_error():
            self.work.note_computed()
        self._state.save()  # what a handler has promised is on disk, whatever is answered
        return reply

    def figures(self, folder: Path) -> None:
        own_figures(self.work.hospital, folder)

    def close(self) -> None:
        self.work.close()

    def _context(self) -> Context:
        return Context(
            run_id=1,
            node_id=CLIENT_NODE_ID,
            node_config={"hospital": self._name},
            state=self._state.records,
            run_config={},
        )
