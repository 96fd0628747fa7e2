"""The description that a server serves is the one that lies in its folder, not the one of its
start."""

from __future__ import annotations

from pathlib import Path

from wardround.common.config.load import load_config
from wardround.server.provision.kits import load_server_folder, provision
from wardround.server.reception.present_description import PresentDescription

NETWORK = """
[federation]
name = "trust"
[network]
[server]
address = "localhost:8443"
hospitals = ["north", "south"]
researchers = ["anna"]
"""


def test_a_server_that_stood_by_knows_who_came_meanwhile(tmp_path: Path) -> None:
    """Else it would take their studies for those of people who are no members any more."""
    file = tmp_path / "network.toml"
    file.write_text(NETWORK)
    config = load_config(file)
    provision(config)
    waiting = load_server_folder(config)
    assert set(PresentDescription(waiting).now.researchers) == {"anna"}
    provision(config, [("researcher", "bert")])
    description = PresentDescription(waiting)
    assert set(description.now.researchers) == {"anna", "bert"}
    assert not description.look_again(), "nothing is new"
    waiting.description_path.write_text("torn")
    assert set(PresentDescription(waiting).now.researchers) == {"anna"}, "that of the start stays"
