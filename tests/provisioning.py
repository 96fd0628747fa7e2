"""What tests of keys, kits and provisioning share: a federation on a disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from wardround.client.data.held_out import simulated_key
from wardround.client.site.held_out import FILE
from wardround.common.config.load import Config, load_config
from wardround.common.durable.private import private_folder, write_private
from wardround.common.trust import pki
from wardround.server.provision import kits as provision

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
TWO = ("north", "south")


class Site(NamedTuple):
    """A provisioned federation, and the kit of its first hospital, handed over."""

    config: Config
    kit: Path
    authority: pki.Authority


def federation(folder: Path, name: str = "heart", hospitals: Sequence[str] = TWO) -> Config:
    """A federation.toml in a folder, read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "federation.toml"
    path.write_text(f"[federation]\nname = '{name}'\n[server]\nhospitals = {list(hospitals)}\n")
    return load_config(path)


def handed_over(folder: Path) -> Site:
    """The coordinator's side in one folder, the kit of 'north' in another."""
    config = federation(folder / "coordinator")
    made = provision.provision(config, now=NOW)
    shutil.move(made.kits[0], folder / "north")
    authority = pki.Authority.open(made.folder / "authority", "heart", NOW)
    return Site(config, folder / "north", authority)


def kits(config: Config) -> Path:
    """Where the coordinator's kits lie."""
    return config.folder / "provision" / "kits"


def signed_file(config: Config) -> Path:
    """The server's description."""
    return config.folder / "provision" / "server" / "federation.signed"


def hold_out_as_simulated(kit: Path, seed: int, name: str) -> None:
    """The rows that a simulation holds out, so that models can be compared: else a kit's key is of
    the system's generator."""
    write_private(private_folder(kit / "state") / FILE, simulated_key(seed, name))
