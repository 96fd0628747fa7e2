"""What a client remembers between rounds: control variates, personal layers.

Each version is kept under the round that made it, and every training request names the round whose
reply the server last accepted from this client (``state-round``). So a repeated round, a refused
reply or a server that went back to a checkpoint finds the client in the state that belongs to it.
Kept in Flower's ``Context.state``, which every host persists with the client.

The keys and counters of secure aggregation are kept here too. A host that stores the state on disk
must have stored it before it sends the reply that came with it.
"""

from __future__ import annotations

from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from wardround.common.flower.arrays import Arrays, check_finite, decode_arrays, encode_arrays
from wardround.common.protocol.names import records_of

_SEPARATOR = "@"
_RUN = "run"
OF_RUN = "run-"
"""Begins the names of arrays that belong to a run as a whole."""


class ClientState:
    """Versions of named arrays, and records of values, in a ``RecordDict``."""

    def __init__(self, records: RecordDict) -> None:
        self._records = records

    @property
    def records(self) -> RecordDict:
        """As they are stored."""
        return self._records

    def load(self, name: str, state_round: int) -> Arrays | None:
        """The arrays called ``name`` as they were after ``state_round``; None if there are none."""
        record = self._records.get(f"{name}{_SEPARATOR}{state_round}")
        return decode_arrays(record) if isinstance(record, ArrayRecord) else None

    def save(self, name: str, arrays: Arrays, server_round: int, state_round: int) -> None:
        """Keep ``arrays`` as the version of ``server_round`` and forget all but ``state_round``'s.

        The version of ``state_round`` stays: the server may still repeat this round.

        Raises ReplyRefused, and keeps what there was, for arrays that no later round could take up:
        training has run away.
        """
        for key, value in arrays.items():
            check_finite(key, value, trained=True)
        keep = f"{name}{_SEPARATOR}{state_round}"
        for key in [key for key in self._records if key.startswith(name + _SEPARATOR)]:
            if key != keep:
                del self._records[key]
        self._records[f"{name}{_SEPARATOR}{server_round}"] = encode_arrays(arrays)

    def keep(self, server_round: int, state_round: int) -> None:
        """Let every name be after ``server_round`` what it was after ``state_round``: this client
        had no part in the round, though the server may believe so."""
        versions = (key.rpartition(_SEPARATOR) for key in records_of(self._records, ArrayRecord))
        for name in {name for name, separator, _ in versions if separator}:
            before = self._records.get(f"{name}{_SEPARATOR}{state_round}")
            after = f"{name}{_SEPARATOR}{server_round}"
            if before is not None:
                self._records[after] = before
            elif after in self._records:
                del self._records[after]

    def begin_run(self, run: str) -> None:
        """Forget the arrays of every round of another run: what was made under its plan serves no
        other. (A state of an earlier version doesn't say whose it is, and stays.)"""
        before = self.values(_RUN)
        if before is not None and before["run"] == run:
            return
        kept = list(records_of(self._records, ArrayRecord)) if before is not None else []
        for key in [key for key in kept if _SEPARATOR in key or key.startswith(OF_RUN)]:
            del self._records[key]
        self.set_values(_RUN, {"run": run})

    # --- arrays of the run, whatever a request says ----------------------------------------------
    def of_run(self, name: str) -> Arrays | None:
        """The arrays kept under ``name`` for this run, or None."""
        record = self._records.get(OF_RUN + name)
        return decode_arrays(record) if isinstance(record, ArrayRecord) else None

    def keep_of_run(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under ``name`` until another run begins. The newest stands last."""
        self._records.pop(OF_RUN + name, None)
        self._records[OF_RUN + name] = encode_arrays(arrays)

    def names_of_run(self, prefix: str) -> list[str]:
        """Names of such arrays that start so, oldest first."""
        every = [name for name in records_of(self._records, ArrayRecord) if name.startswith(OF_RUN)]
        return [one for name in every if (one := name.removeprefix(OF_RUN)).startswith(prefix)]

    def forget_of_run(self, name: str) -> None:
        """Forget the arrays kept under ``name``."""
        del self._records[OF_RUN + name]

    # --- records of values: secure aggregation's store ------------------------------------------
    def values(self, name: str) -> dict[str, Any] | None:
        """The values kept under ``name``, or None."""
        record = self._records.get(name)
        return dict(record) if isinstance(record, ConfigRecord) else None

    def set_values(self, name: str, values: dict[str, Any]) -> None:
        """Keep numbers, text, bytes and lists of these under ``name``."""
        self._records[name] = ConfigRecord(dict(values))

    def names(self, prefix: str) -> list[str]:
        """Names of kept values that start so, oldest first."""
        return [name for name in records_of(self._records, ConfigRecord) if name.startswith(prefix)]

    def remove(self, name: str) -> None:
        """Forget what is kept under ``name``."""
        del self._records[name]
