"""The coordinator's process: everything that ``wardround server federation.toml`` runs.

Killed at any moment and started again it goes on after the last committed round of its run. The
server folder holds its keys, the signed description, the audit log, a lock, and which run is the
present one.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from wardround.common.audit.log import AuditLog
from wardround.common.durable.files import writing
from wardround.common.durable.lock import take_lock
from wardround.common.memory import one_arena
from wardround.common.trust.lifetime import check_in_force
from wardround.common.trust.pki import now_utc
from wardround.server.process.present_run import COMMAND, present_run
from wardround.server.process.running import RunningServer, ServerSetup
from wardround.server.rounds.federation import FederationOutcome
from wardround.server.rounds.stepping import Answered


class Coordinator:
    """One run of a federation over the network.

    Attributes
    ----------
    run_path : of the run directory, once it is known
    """

    def __init__(self, setup: ServerSetup) -> None:
        self._setup = setup
        self.run_path: Path | None = None

    def run(self, new: bool = False) -> FederationOutcome | Answered | None:
        """Wait for the hospitals, and run (or go on with) the rounds; None if the present run is
        complete. Raises WardroundError.

        new : begin another run, whatever has become of the last one
        """
        one_arena()
        setup, folder = self._setup, self._setup.folder
        if not folder.description.hospitals:
            raise setup.config.error("server.hospitals", "no hospital is provisioned yet")
        check_in_force(folder.description, now_utc())
        with ExitStack() as held:
            held.enter_context(writing(folder.folder, f"start again: {COMMAND}"))
            held.enter_context(take_lock(folder.folder / "lock"))
            audit = AuditLog.open(
                folder.audit_path, "server", folder.identity, listener=setup.board.audit
            )
            held.enter_context(audit)
            run = present_run(setup.config, folder.folder, new, setup.say)
            if run is None:
                return None
            self.run_path = run.path
            return RunningServer(setup, run, audit).serve()
