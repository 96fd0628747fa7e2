"""The coordinator's Flower ``ServerApp``: the same in every host."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from wardround.common.flower.hosting import quiet_flower
from wardround.server.rounds.federation import Federation, FederationOutcome


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
