"""The run manifests that this server signs: first of the preparation, then with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wardround.common.compression.scales import SCALES
from wardround.common.config.covers import noised_sums
from wardround.common.config.load import Config
from wardround.common.joint.known import make_joint
from wardround.common.joint.party import check_parties
from wardround.common.judgement.judge import check_judgement
from wardround.common.manifest.leaves import (
    joint_leaves,
    preparation_leaves,
    procedure_leaves,
    training_leaves,
)
from wardround.common.manifest.manifest import Manifest, uploads_of
from wardround.common.manifest.planned import (
    model_family,
    own_versions,
    planned_rounds,
    planned_steps,
    shared_privacy,
    shared_secure,
    task_name,
    task_sha256,
)
from wardround.common.privacy.preparing import phases_of
from wardround.common.procedures.finished import check_named
from wardround.common.procedures.known import make_procedure
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf
from wardround.common.secagg.content import descriptor
from wardround.common.settings import PrivacyTable, SecureAggregationTable
from wardround.common.study.study import Study
from wardround.common.tasks.base import Task
from wardround.common.trust.description import Description
from wardround.common.trust.identity import Identity
from wardround.server.gathering.host import KnownModel
from wardround.server.strategies import StrategyPlan, build_strategy


@dataclass(frozen=True, kw_only=True)
class ManifestSigner:
    """Makes and signs the manifests of one run.

    run_name : the run directory's, as training requests of a private run have it
    identity : the server's
    study : of a network's study; None in a federation that is one
    """

    config: Config
    task: Task[Any]
    run_name: str
    identity: Identity
    study: Study | None = None

    def signed(self, description: Description, known: KnownModel | None) -> bytes:
        """The manifest under this description; of stage 2 once the model is ``known``."""
        manifest = preparation_manifest(
            self.config, self.task, description, self.run_name, self.study
        )
        if known is not None:
            manifest = training_manifest(manifest, known)
        return manifest.signed(self.identity)


def preparation_manifest(
    config: Config,
    task: Task[Any],
    description: Description,
    run_name: str,
    study: Study | None = None,
) -> Manifest:
    """Stage 1: all but the model's arrays.

    Parameters
    ----------
    run_name : the run directory's, as training requests of a private run have it
    study : whose hospitals alone are the roster; None: all are

    Raises ConfigError, StrategyError or TaskError for settings that no run could have.
    """
    check_judgement(config, task)
    plan = build_strategy(config)
    secure, privacy = shared_secure(config.secure_aggregation), shared_privacy(config)
    wanted = description.hospitals if study is None else study.hospitals
    roster = tuple(sorted(set(description.hospitals) & set(wanted)))
    return Manifest(
        stage=1,
        run=run_name,
        study=study.id if study is not None else "",
        federation=description.federation,
        description=description.digest().hex(),
        description_version=description.version,
        descriptor=descriptor(config).hex(),
        protocol=m.PROTOCOL,
        versions=own_versions(),
        task=task_name(config),
        task_sha256=task_sha256(config),
        model_family=model_family(config),
        procedure=config.procedure.called,
        steps=planned_steps(config),
        rounds=planned_rounds(config),
        cohort=min(len(roster), config.federation.cohort or len(roster)),
        uploads=uploads_of(config),
        largest_weight=None,
        first_model="",
        strategy=config.strategy.name,
        algorithms=(plan.algorithm,),
        privacy=privacy,
        secure_aggregation=secure,
        compression=config.compression,
        roster=roster,
        leaves=_leaves(config, task, plan, secure, privacy, roster),
    )


def _leaves(
    config: Config,
    task: Task[Any],
    plan: StrategyPlan,
    secure: SecureAggregationTable,
    privacy: PrivacyTable,
    roster: Sequence[str],
) -> tuple[Leaf, ...]:
    """What leaves a hospital in stage 1."""
    check_named(config)
    if config.procedure.trains:
        records = list(plan.ours.reply_records({})) if plan.ours else []
        records += [SCALES] if config.compression.bits else []
        statistics = phases_of(config, task) > 0
        noised, buffered = noised_sums(config), config.federation.buffered
        return preparation_leaves(secure, privacy, records, statistics, noised, buffered)
    if config.procedure.joint:
        joint = make_joint(config, task)
        check_parties(joint, roster)
        return joint_leaves(joint, privacy)
    make_procedure(config, task)  # what doesn't go together is said before anybody is asked
    return procedure_leaves(secure, privacy)


def training_manifest(earlier: Manifest, known: KnownModel) -> Manifest:
    """Stage 2: ``earlier`` with what the model decides."""
    expected = known.expected
    filled = training_leaves(
        earlier.secure_aggregation,
        earlier.privacy,
        expected.layout,
        expected.parameters,
        expected.all_records,
        earlier.compression.bits,
    )
    leaves = (*(leaf for leaf in earlier.leaves if not leaf.open), *filled)
    values = {name: getattr(earlier, name) for name in Manifest.model_fields}
    decided = {"largest_weight": expected.largest_weight, "first_model": known.first_model}
    return Manifest(**values | decided | {"stage": 2, "leaves": leaves})
