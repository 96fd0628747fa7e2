"""Is a run manifest of this federation, and does it promise what this program would do?

Whatever the hospital's own rules allow, these must hold: the plan agrees, field by field, with the
signed description and settings in the hospital's own kit, and its list of what leaves is the one
that this hospital's program works out from its own settings.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from wardround.client.algorithms import ALGORITHMS
from wardround.client.secagg.ckks import lacking
from wardround.common.compression.scales import SCALES
from wardround.common.config.covers import noised_sums
from wardround.common.config.load import Config
from wardround.common.errors import PlanRefused
from wardround.common.joint.known import make_joint
from wardround.common.manifest.leaves import (
    joint_leaves,
    moved_protection,
    preparation_leaves,
    procedure_leaves,
    still_protection,
)
from wardround.common.manifest.manifest import Manifest
from wardround.common.manifest.planned import (
    model_family,
    own_versions,
    planned_rounds,
    planned_steps,
    shared_privacy,
    shared_secure,
    task_name,
)
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.privacy.budget import before_training, held_out_releases
from wardround.common.privacy.schedule import (
    hospital_schedule,
    stepwise_schedule,
    summed_schedule,
)
from wardround.common.privacy.sums import steps_epsilon
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf
from wardround.common.secagg.content import descriptor
from wardround.common.study.study import Study
from wardround.common.text import one_line
from wardround.common.trust.description import Description

log = logging.getLogger("wardround.client")

_OWN = {"min_cohort", "colluding", "threads"}
"""Keys of ``[secure_aggregation]`` that are each hospital's own."""
_KIT, _VERSION = "ask the coordinator which is right", "install the same version on both sides"
_STUDY = "the signed study says so"


def check_plan(
    manifest: Manifest, description: Description, config: Config, study: Study | None = None
) -> None:
    """Raise PolicyRefused, naming the field and both values, for the first that differs.

    Parameters
    ----------
    description : from this hospital's own kit
    config : this hospital's settings
    study : of a network, that they are of
    """
    own = own_versions()
    _same("protocol", manifest.protocol, m.PROTOCOL, _VERSION)
    _same("version of wardround", manifest.versions.wardround, own.wardround, _VERSION)
    for name in ("flwr", "torch"):
        theirs, ours = getattr(manifest.versions, name), getattr(own, name)
        if theirs != ours:
            log.warning("the server computes with %s %s, this hospital with %s", name, theirs, ours)
    _same("federation", manifest.federation, description.federation, _KIT)
    _same("description's version", manifest.description_version, description.version, _KIT)
    _same("description", manifest.description, description.digest().hex(), _KIT)
    if study is None:
        _same("roster", list(manifest.roster), sorted(description.hospitals), _KIT)
    else:
        _check_study(manifest, description, study)
    _same("task", manifest.task, task_name(config), _KIT)
    _same("model family", manifest.model_family, model_family(config), _KIT)
    _same("procedure", manifest.procedure, config.procedure.called, _KIT)
    _same("most steps", manifest.steps, planned_steps(config), _VERSION)
    _same("rounds", manifest.rounds, planned_rounds(config), _KIT)
    _same("strategy", manifest.strategy, config.strategy.name, _KIT)
    _same_table("privacy", manifest.privacy, shared_privacy(config), set())
    secure = shared_secure(config.secure_aggregation)
    _same_table("secure_aggregation", manifest.secure_aggregation, secure, _OWN)
    _same_table("compression", manifest.compression, config.compression, set())
    _same("settings' digest", manifest.descriptor, descriptor(config).hex(), _KIT)
    if unknown := [name for name in manifest.algorithms if name not in ALGORITHMS]:
        known = ", ".join(ALGORITHMS)
        raise PlanRefused(f"the run's algorithm '{unknown[0]}' is unknown here; known: {known}")
    if (options := config.strategy.settings) is not None:
        _same("algorithms", list(manifest.algorithms), [options.algorithm], _KIT)
    if why := lacking(manifest.secure_aggregation, manifest.cohort):
        raise PlanRefused(why)
    _check_leaves(manifest, config)


def _check_study(manifest: Manifest, description: Description, study: Study) -> None:
    """That the plan is what the study asks for, of those of its hospitals that there still are."""
    _same("study", manifest.study, study.id, _STUDY)
    _same("name", manifest.run, study.run, _STUDY)
    asked = [name for name in study.hospitals if name in description.hospitals]
    _same("roster", list(manifest.roster), asked, _STUDY)
    _same("task's SHA-256", manifest.task_sha256, study.task_sha256, _STUDY)


def _same(what: str, theirs: Any, own: Any, mend: str) -> None:
    if theirs != own:
        line = f"the run's {what} is {_short(theirs)}, this hospital's {_short(own)}; {mend}"
        raise PlanRefused(one_line(line))


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _same_table(table: str, theirs: Any, own: Any, but: set[str]) -> None:
    for key in type(own).model_fields:
        if key not in but:
            _same(f"{table}.{key}", getattr(theirs, key), getattr(own, key), _KIT)


def _check_leaves(manifest: Manifest, config: Config) -> None:
    """The list of what leaves is what this program would send; stage 2 may name any arrays in the
    records that stage 1 left open, protected as those are.

    Both ways: a leaf too many would let out what the settings keep in, and one too few would have a
    person approve less than leaves.
    """
    secure, privacy = shared_secure(config.secure_aggregation), shared_privacy(config)
    known = {m.METRICS, m.PRIVACY, m.SECAGG, m.QUANTILE, m.ARRAYS}
    records = dict.fromkeys(
        leaf.record
        for leaf in manifest.leaves
        if leaf.message_type == m.TRAIN and leaf.record not in known
    )
    if config.compression.bits:
        records[SCALES] = None
    statistics = any(leaf.message_type == m.STATISTICS for leaf in manifest.leaves)
    if config.procedure.trains:
        noised, buffered = noised_sums(config), config.federation.buffered
        expected = preparation_leaves(secure, privacy, list(records), statistics, noised, buffered)
    elif config.procedure.joint:
        joint = make_joint(config)
        _same("parties", list(joint.parties), list(manifest.roster), _KIT)
        expected = joint_leaves(joint, privacy)
    else:
        expected = procedure_leaves(secure, privacy)
    found = set(manifest.leaves)
    if manifest.stage == 2:
        vectors = {leaf.place for leaf in expected if leaf.open and leaf.dtype == "bytes"}
        moved = moved_protection(secure, privacy)
        may = {(record, moved) for record in (*records, m.ARRAYS)}
        may.add((m.ARRAYS, still_protection(secure)))
        expected = tuple(leaf for leaf in expected if not leaf.open)
        filled = found - set(expected)
        found -= {
            leaf
            for leaf in filled
            if (leaf.place in vectors and leaf.protection == moved)
            or (leaf.message_type == m.TRAIN and (leaf.record, leaf.protection) in may)
        }
    if extra := sorted(found - set(expected), key=_place):
        raise PlanRefused(
            f"the run's manifest lists {describe(extra[0])}, which this hospital's program would "
            "not send under these settings"
        )
    if missing := sorted(set(expected) - found, key=_place):
        raise PlanRefused(
            f"the run's manifest doesn't list {describe(missing[0])}, which leaves under these "
            "settings"
        )


def _place(leaf: Leaf) -> tuple[str, str, str]:
    return leaf.place


def describe(leaf: Leaf) -> str:
    """A leaf in words."""
    what = f"'{leaf.record}/{leaf.name[:100]}' of {leaf.message_type} ({leaf.dtype}"
    shape = "" if leaf.shape is None else str(list(leaf.shape))
    return f"{what}{shape}, {leaf.protection})"


def planned_epsilon(manifest: Manifest, config: Config, units: int | None) -> float:
    """Epsilon of the whole run for this hospital, if every round is trained once; inf without
    privacy. ``units`` of its training part; None: as many as would cost most.

    Costs grow with the rate q at which a unit is drawn for a step. Over the federation q = batch
    size x hospitals / units of all, of which the other hospitals have at least one each.
    """
    table = config.privacy
    if not table.enabled:
        return math.inf
    if table.epsilon is not None:
        return table.epsilon
    if not config.procedure.trains:
        return steps_epsilon(config, manifest.steps)
    held_out = epsilon(held_out_releases(config, manifest.rounds), table.delta)
    return max(_training_epsilon(manifest, config, units), held_out)


def _training_epsilon(manifest: Manifest, config: Config, units: int | None) -> float:
    """Of a unit that trains, where the noise is given."""
    table, rounds = config.privacy, manifest.rounds
    if table.unit == "hospital":
        return hospital_schedule(config, rounds).epsilon(table.delta)
    if table.stepwise and units is not None:
        return stepwise_schedule(config, units, rounds).epsilon(table.delta)
    if table.stepwise:  # just below a rate of 1 an epoch has two steps
        steps = config.training.local_steps or 2 * config.training.local_epochs
        assert table.noise_multiplier is not None  # the configuration has one or the other
        every = Release(table.noise_multiplier, 1.0, steps * rounds)
        return epsilon([*before_training(config), every], table.delta)
    hospitals = len(manifest.roster)
    total = (units or 1) + hospitals - 1  # every other one announces at least one unit
    rate = min(1.0, config.training.batch_size * hospitals / total)
    return summed_schedule(config, rate, 1.0, rounds).epsilon(table.delta)
