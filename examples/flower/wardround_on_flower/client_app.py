"""A hospital's half: the hospital of this node's ``partition-id``."""

from wardround.client.app import create_client_app
from wardround.simulations.flower import open_hospital

app = create_client_app(open_hospital)
