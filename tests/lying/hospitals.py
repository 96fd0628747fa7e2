"""Hospitals for a server that lies: their own app and gate, as a process has them, in this process.

What is left out is the transport. Each has rows of its own number and kind, so that no two weigh
the same, and what one sends is nobody else's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from flwr.app import Context, RecordDict

from tests.federate import Line
from wardround.client.app import create_client_app
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.plan import Plan
from wardround.client.data.shard import OwnShard
from wardround.client.site.gate import Gate
from wardround.client.site.plan_checks import check_plan
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import WardroundError
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, encode_arrays, layout_of
from wardround.common.flower.hosting import become_client, received_message
from wardround.common.manifest.manifest import Manifest
from wardround.common.model.entries import SHARED, entries_of
from wardround.common.model.named import build_model, model_arrays
from wardround.common.protocol.message import Content
from wardround.common.secagg.content import record_digest
from wardround.common.tasks.base import Examples, Task
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.identity import Identity
from wardround.server.gathering.gatherer import Expected
from wardround.server.gathering.host import KnownModel
from wardround.server.reception.manifest import preparation_manifest, training_manifest

SETTINGS = """
[federation]
name = "study"
rounds = 3
seed = 7
round_attempts = 2
[data]
test_fraction = 0.25
[training]
lr = 0.05
local_epochs = 1
batch_size = 1000
[secure_aggregation]
enabled = true
min_cohort = 3
"""
_numbers = itertools.count(1)


class Site(Protocol):
    """A hospital as the server reaches it."""

    def ask(self, kind: str, content: Content) -> Content | str:
        """Its answer, or why there is none."""

    def show(self, manifest: Manifest) -> str:
        """Why it doesn't accept a run; '' if it does."""


class Rows(Line):
    """Four features, one phase of preparation."""

    phases = 1

    def __init__(self) -> None:
        super().__init__(start=0.25, features=4)

    def statistics(self, train: Examples, phase: int, totals: Sums) -> Sums:
        return {
            "rows": np.array([float(len(train))]),
            "sum": train.tensor().double().sum(0).numpy(),
        }


def rows_of(number: int) -> Examples:
    """Of the hospital of this number: 8, 16, 24 ... rows."""
    draw = torch.Generator().manual_seed(number)
    count = 8 * (number + 1)
    x = torch.randn(count, 4, generator=draw) + number / 2
    return Examples(x, x @ torch.tensor([1.0, -2.0, 0.5, float(number)]) + 1.0)


@dataclass
class HereSite:
    """One hospital of this process."""

    hospital: Hospital
    description: Description

    def __post_init__(self) -> None:
        self._app = create_client_app(lambda context: self.hospital)
        self._gate = Gate()
        self.context = Context(
            run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}
        )

    def show(self, manifest: Manifest) -> str:
        try:
            check_plan(manifest, self.description, self.hospital.config)
        except WardroundError as error:
            return str(error)
        self._gate, self.hospital.plan = Gate(manifest), Plan.accepted(manifest)
        return ""

    def ask(self, kind: str, content: Content) -> Content | str:
        try:
            self._gate.may_begin(kind, content)
            request = received_message(content, kind, f"{next(_numbers)}")
            reply = self._app(request, self.context)
            if reply.has_error():
                return reply.error.reason or "no reason"
            self._gate.check(kind, reply.content)
        except WardroundError as error:
            return str(error)
        return reply.content


@dataclass
class Study:
    """Hospitals and what a server knows of them.

    first : the first model's shared arrays; none before they are known
    truth : what one hospital would answer in plain, to check with; no server has it
    totals : those that the first model is made of
    """

    config: Config
    task: Task[Any]
    description: Description
    sites: Mapping[str, Site]
    weights: Mapping[str, int]
    first: Arrays
    truth: Callable[[str, str, Content], Content]
    totals: Sums = field(default_factory=dict)

    @property
    def roster(self) -> dict[str, bytes]:
        return dict(self.description.hospitals)

    def manifest(self, run: str, **false: Any) -> Manifest:
        """The plan of a run, with the model once it is known; ``false``: fields that are others."""
        first = preparation_manifest(self.config, self.task, self.description, run)
        if not self.first:
            return first.model_copy(update=false)
        model = build_model(self.task, self.totals, self.config.federation.seed)
        expected = Expected(
            layout_of(self.first),
            entries_of(self.config, model).parameters,
            {},
            self.first,
            largest_weight=max(self.weights.values()),
        )
        digest = record_digest(encode_arrays(self.first)).hex()
        found = training_manifest(first, KnownModel(expected, digest))
        return found.model_copy(update=false)


def study(count: int = 5, settings: str = SETTINGS) -> Study:
    """So many hospitals called a, b, c ..., in this process."""
    become_client()
    config, task = parse_config(settings), Rows()
    names = [chr(ord("a") + number) for number in range(count)]
    keys = {name: Identity.generate() for name in names}
    description = Description(
        config.federation.name,
        1,
        "localhost:8443",
        shared_toml(config),
        Identity.generate().public,
        {name: key.public for name, key in keys.items()},
        (),
        "2026-01-01T00:00:00+00:00",
        "2026-01-31T00:00:00+00:00",
    )
    plain = config.model_copy(
        update={
            "secure_aggregation": config.secure_aggregation.model_copy(update={"enabled": False})
        }
    )

    def hospital(number: int, own: Config) -> Hospital:
        name = names[number]
        shard = OwnShard(name, task, own, lambda: rows_of(number))
        return Hospital(shard, keys=Keys(keys[name], dict(description.hospitals)), place=Place())

    sites = {name: HereSite(hospital(i, config), description) for i, name in enumerate(names)}
    twins = {name: hospital(i, plain) for i, name in enumerate(names)}

    def truth(name: str, kind: str, content: Content) -> Content:
        app = create_client_app(lambda context: twins[name])
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        reply = app(received_message(content, kind, "truth"), context)
        assert not reply.has_error(), reply.error.reason
        return reply.content

    model = build_model(task, {}, config.federation.seed)
    first = entries_of(config, model).only(model_arrays(model), *SHARED)
    weights = {name: twin.sizes()["train"] for name, twin in twins.items()}
    return Study(config, task, description, sites, weights, first, truth)
