"""``wardround privacy audit`` of a split network: what each party can read from what it is sent.

The network is trained on the configured rows, as configured and without bounds and noise, and all
that crosses is looked at by the attacks of ``split_labels.py`` and ``split_features.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.settings import SplitOptions
from wardround.common.split.cost import spent
from wardround.common.split.inputs import Inputs, inputs_of, outcome_of
from wardround.common.split.party import area
from wardround.common.split.procedure import Split
from wardround.common.split.schedule import Schedule
from wardround.common.split.weights import Protection
from wardround.common.tasks.linked import LinkedRows
from wardround.simulations.privacy.attacks.split_features import Inverted, read_features
from wardround.simulations.privacy.attacks.split_labels import Batch, Leak, read_outcomes

Floats = NDArray[np.float64]

SPLIT_BLIND = (
    "An attack that fails proves nothing: a stronger one may not. Noise is judged by its epsilon.",
    "Attackers here follow the protocol. An outcome's holder that sends gradients of its own "
    "choice can shape the other's tower so that it tells more, and a feature party may send chosen "
    "numbers.",
    "A feature party that knows a few outcomes can also train a head on its own tower's numbers, "
    "with or without gradients: what the model has learnt it can use.",
    "The figures on those held out are exact, and mean and deviation of columns are of the rows: "
    "epsilon doesn't cover them.",
)


@dataclass(frozen=True)
class Read:
    """What was read in one training.

    auc : of those held out
    outcomes : from what each feature party was sent
    features : of each feature party, by the outcome's holder; None where it was too few persons
    """

    auc: float | None
    outcomes: Mapping[str, Leak]
    features: Mapping[str, Inverted]


@dataclass(frozen=True)
class SplitAudit:
    """What the attacks found.

    as_configured : None where neither bound nor noise is configured: then it is ``bare``
    own_columns : how much of a feature party's columns the holder's own columns explain
    epsilon : with the configured noise, else inf
    alone : area under the curve of the outcome holder's columns alone
    """

    split: Split
    names: Mapping[str, tuple[str, ...]]
    bare: Read
    as_configured: Read | None
    own_columns: Mapping[str, float]
    epsilon: float
    alone: float | None


def audit_split(split: Split, rows: Mapping[str, LinkedRows], seed: int) -> SplitAudit:
    """Attack the configured split network on these rows: ``observe``."""
    observed, options = observe(split, rows, seed), split.options
    return SplitAudit(
        split,
        {name: observed.inputs[name].names for name in split.features},
        observed.read(None, 0.0),
        observed.read(options.clip, options.noise_multiplier) if options.clip else None,
        observed.own_columns(),
        observed.epsilon(options),
        observed.alone(),
    )


def observe(split: Split, rows: Mapping[str, LinkedRows], seed: int) -> Observed:
    """The network on rows that are linked here in plain.

    rows : of each party

    Raises JointRefused where too few persons are at all of them, or all of one class.
    """
    common = set.intersection(*(set(one.keys) for one in rows.values()))
    order = sorted(common, key=lambda key: hashlib.sha256(key).digest())
    linked = {name: one.select(_places(one, order)) for name, one in rows.items()}
    schedule = split.schedule(len(order))
    inputs = {name: inputs_of(one, schedule.training) for name, one in linked.items()}
    outcome = outcome_of(linked[split.holder], schedule.training)
    return Observed(split, inputs, outcome, schedule, seed)


def _places(rows: LinkedRows, order: list[bytes]) -> NDArray[np.int64]:
    where = {key: place for place, key in enumerate(rows.keys)}
    return np.array([where[key] for key in order], dtype=np.int64)


@dataclass(frozen=True)
class Observed:
    """A split network of which all that crosses is seen."""

    split: Split
    inputs: Mapping[str, Inputs]
    outcome: Tensor
    schedule: Schedule
    seed: int

    def epsilon(self, options: SplitOptions) -> float:
        """With the noise of these options; inf without any."""
        return spent(options, len(self.outcome))

    def alone(self) -> float | None:
        """The area of the holder's columns alone; None where it has none."""
        if not self.split.holder_has:
            return None
        own = self.inputs[self.split.holder]
        return area(self.split.scored_alone(own, self.outcome, self.schedule))

    def read(self, clip: float | None, noise_multiplier: float) -> Read:
        """Train, and attack what crossed."""
        split, schedule = self.split, self.schedule
        secret = hashlib.sha256(f"audit {self.seed}".encode()).digest()
        protection = Protection(clip, noise_multiplier, secret, bytes(32))
        sides = {
            name: split.feature_side(name, self.inputs[name], schedule, protection)
            for name in split.features
        }
        own = self.inputs[split.holder]
        holder = split.outcome_side(own, self.outcome, schedule, protection)
        seen = {name: Crossed(len(self.outcome), split.options.width) for name in split.features}
        back: dict[str, list[Batch]] = {name: [] for name in split.features}
        for number in range(schedule.batches):
            rows = schedule.batch(number)
            came = {name: side.sends(number) for name, side in sides.items()}
            for name, gradients in holder.answers(number, came).items():
                seen[name].add(rows, came[name])
                back[name].append((rows, gradients.astype(np.float64)))
                sides[name].receives(number, gradients)
        came = {name: side.sends_held_out() for name, side in sides.items()}
        for name, numbers in came.items():
            seen[name].add(schedule.held_out, numbers)
        outcome = self.outcome.double().numpy()
        return Read(
            area(holder.scores(came)),
            {name: read_outcomes(found, outcome) for name, found in back.items()},
            {name: self._inverted(name, crossed) for name, crossed in seen.items()},
        )

    def _inverted(self, name: str, crossed: Crossed) -> Inverted:
        known, values = crossed.found()
        truth, shape = self._truth(name)
        return read_features(values, truth[known], self.seed, shape)

    def own_columns(self) -> dict[str, float]:
        """The attack with the holder's own inputs instead of what crosses; 0 where it has none."""
        own, _ = self._truth(self.split.holder)
        if not own.shape[1]:
            return dict.fromkeys(self.split.features, 0.0)
        return {
            name: read_features(own, self._truth(name)[0], self.seed).explained
            for name in self.split.features
        }

    def _truth(self, name: str) -> tuple[Floats, tuple[int, ...] | None]:
        """A party's inputs, N x Q, and the shape of one where they are images."""
        rows = self.inputs[name].rows
        values = rows.flatten(1).double().numpy()
        if rows.dim() == 2:
            return values, None
        scale = 255.0 if not rows.dtype.is_floating_point else 1.0
        return values / scale, tuple(rows.shape[1:])


class Crossed:
    """What the holder has of each person: the numbers that crossed last, and the mean of all."""

    def __init__(self, persons: int, width: int) -> None:
        self._last, self._sum = np.zeros((persons, width)), np.zeros((persons, width))
        self._count = np.zeros(persons)

    def add(self, rows: NDArray[np.int64], numbers: NDArray[np.float32]) -> None:
        """Numbers of some persons."""
        self._last[rows] = numbers
        self._sum[rows] += numbers
        self._count[rows] += 1

    def found(self) -> tuple[NDArray[np.int64], Floats]:
        """The persons of whom anything crossed, and what there is of each: N x 2 width."""
        known = np.flatnonzero(self._count)
        mean = self._sum[known] / self._count[known, None]
        return known, np.concatenate([self._last[known], mean], axis=1)


def split_words(found: SplitAudit) -> list[str]:
    """What was found, in sentences; the most important first."""
    options = found.split.options
    if options.noise_multiplier:
        first = (
            f"Noise multiplier {options.noise_multiplier:g}, clip {options.clip:g}: epsilon at "
            f"most {found.epsilon:.3g} at delta {options.delta:g}, of one party's columns of one "
            "person."
        )
    else:
        first = "No noise is configured: what crosses protects nobody, and epsilon is infinite."
    lines = [first]
    runs = [("as configured", found.as_configured), ("without bound and noise", found.bare)]
    for what, read in runs:
        if read is None:
            continue
        alone = "" if found.alone is None else f"; the outcome holder's columns alone {found.alone}"
        lines.append(f"Area under the curve, {what}: {read.auc}{alone}.")
        for name in found.split.features:
            leak = read.outcomes[name]
            lines.append(
                f"Outcomes read by '{name}' from its gradients, {what}: area {leak.direction:.3f} "
                f"by their direction, {leak.length:.3f} by their length; 0.5 is guessing."
            )
            lines.append(_of_features(found, name, read.features[name], what))
    return lines


def _of_features(found: SplitAudit, name: str, read: Inverted, what: str) -> str:
    own = max(0.0, found.own_columns[name])
    line = (
        f"Features of '{name}' read by '{found.split.holder}' from what crosses, {what}: "
        f"{max(0.0, read.explained):.0%} of their variance explained"
    )
    if read.similarity is None:
        best = found.names[name][read.column]
        line += f", {max(0.0, read.best):.0%} of '{best}'"
    else:
        line += (
            f", structural similarity {read.similarity:.2f} (the mean image has "
            f"{read.mean_similarity:.2f})"
        )
    return f"{line}; its own columns explain {own:.0%}."
