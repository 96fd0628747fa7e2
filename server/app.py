"""The coordinator's Flower ``ServerApp``: the same in every host."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid, ServerApp

from wardround.common.flower.hosting import RUN_ID, SERVER_NODE_ID, HostGrid, quiet_flower
from wardround.server.joint.driver import JointRun
from wardround.server.rounds.federation import Federation, FederationOutcome
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.stepping import Answered, Stepping


def create_server_app(
    open_federation: Callable[[Context], Federation],
    on_finish: Callable[[FederationOutcome], None] | None = None,
) -> ServerApp:
    """A ServerApp that runs the federation which ``open_federation`` makes of its context."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        quiet_flower()
        outcome = open_federation(context).run(grid)
        if on_finish is not None:
            on_finish(outcome)

    return app


def run_federation(parts: FederationParts, grid: HostGrid) -> FederationOutcome:
    """Run a federation to its end in this process: how every host but Flower's own engine does it.

    Raises WardroundError subclasses.
    """
    outcomes: list[FederationOutcome] = []
    app = create_server_app(lambda context: Federation(parts), outcomes.append)
    app(grid, _context())
    return outcomes[0]


def run_study(parts: FederationParts, grid: HostGrid) -> FederationOutcome | Answered:
    """What the settings ask for: training, or another procedure."""
    if parts.config.procedure.trains:
        return run_federation(parts, grid)
    return run_procedure(parts, grid)


def run_procedure(parts: FederationParts, grid: HostGrid) -> Answered:
    """The same of a study that asks instead of training."""
    answers: list[Answered] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        quiet_flower()
        joint = parts.config.procedure.joint
        answers.append(JointRun(parts).run(grid) if joint else Stepping(parts).run(grid))

    app(grid, _context())
    return answers[0]


def _context() -> Context:
    return Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), {})
