"""What of the run that a hospital takes part in its requests are held against."""

from __future__ import annotations

from dataclasses import dataclass

from wardround.common.config.load import Config
from wardround.common.manifest.manifest import Manifest, uploads_of


@dataclass(frozen=True)
class Plan:
    """The accepted plan's numbers.

    run : the run's name; '' in a simulation, whose hospitals live for one run
    uploads : most vectors that a hospital sends for one sum, of all attempts together
    largest_weight : what a hospital's update counts for at most; None: not fixed (a simulation)
    first_model : digest (hexadecimal) of the shared arrays that round 1 trains from; '': not fixed
    """

    run: str = ""
    uploads: int = 1
    largest_weight: int | None = None
    first_model: str = ""

    @classmethod
    def of_settings(cls, config: Config) -> Plan:
        """What the settings alone say: all that a simulated hospital has."""
        return cls(uploads=uploads_of(config))

    @classmethod
    def accepted(cls, manifest: Manifest) -> Plan:
        """Of the manifest that the hospital has accepted."""
        return cls(manifest.run, manifest.uploads, manifest.largest_weight, manifest.first_model)
