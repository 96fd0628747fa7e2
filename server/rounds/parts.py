"""What a federation is made of, in one object: whoever hosts one fills it in, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wardround.common.config.load import Config
from wardround.common.flower.arrays import Arrays
from wardround.common.run.directory import RunDirectory
from wardround.common.tasks.base import Task
from wardround.common.trust.identity import Identity, Roster
from wardround.server.gathering.host import Host
from wardround.server.observer import Observer
from wardround.server.privacy.round import MakeSource

BeforeCommit = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class FederationParts:
    """One run of a federation, but for the grid that it runs against.

    run_directory : new, or one to go on in
    roster : every hospital's name and public key, for secure aggregation and privacy's claims; may
        be a live view
    host : who may be asked, and when to wait
    make_source : gives a round's source of central noise; None: the operating system's
    before_commit : called with the round just before its checkpoint is written; a simulation
        stores its clients' states there, so that both belong together after a crash
    identity : the server's, which signs the finished model; None: a simulation's, which nobody does
    study : its id; '' outside of a network
    blind_model : gives the shared arrays of a blind run's model, by whose sum it was made of last:
        a simulation's, whose hospitals are here; None: nobody but hospitals has it
    keep_journal : whether to write down what a restarted server needs to open a round's sums; of no
        use where the hospitals die with the server
    """

    config: Config
    task: Task[Any]
    run_directory: RunDirectory
    observer: Observer = field(default_factory=Observer)
    roster: Roster = field(default_factory=dict)
    host: Host = field(default_factory=Host)
    make_source: MakeSource | None = None
    before_commit: BeforeCommit = lambda server_round: None
    identity: Identity | None = None
    study: str = ""
    blind_model: Callable[[int], Arrays] | None = None
    keep_journal: bool = True
