"""Run manifests of stage 2, as a server makes them once the model is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wardround.common.flower.arrays import Layout
from wardround.common.manifest.manifest import Manifest
from wardround.server.gathering.gatherer import Expected
from wardround.server.gathering.host import KnownModel
from wardround.server.reception.manifest import training_manifest

FIRST_MODEL = "ab" * 32


def stage_two(
    first: Manifest, layout: Layout, parameters: Iterable[str], records: Mapping[str, Layout]
) -> Manifest:
    """``first`` with this model, whose hospitals weigh at most 40."""
    expected = Expected(layout, list(parameters), records, {}, largest_weight=40)
    return training_manifest(first, KnownModel(expected, FIRST_MODEL))
