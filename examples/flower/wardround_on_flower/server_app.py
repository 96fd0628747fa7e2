"""The coordinator's half."""

from wardround.server.app import create_server_app
from wardround.simulations.flower import open_federation

app = create_server_app(open_federation)
