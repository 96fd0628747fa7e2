"""``wardround privacy audit``: three attacks on a configuration, and what they can't tell."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.client.training.evaluation import model_outputs
from wardround.common.config.load import Config
from wardround.common.durable.tensors import read_tensors
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import digest_arrays
from wardround.common.model.named import build_model
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import NoiseSource
from wardround.common.tasks.base import Task
from wardround.simulations.population.hospitals import Population
from wardround.simulations.privacy.attacks.inversion import (
    Gradients,
    Inversion,
    correlation,
    gradient_of,
    invert,
)
from wardround.simulations.privacy.attacks.membership_inference import Membership, loss_threshold
from wardround.simulations.privacy.attacks.one_run import Canaries, OneRun, judge
from wardround.simulations.privacy.attacks.training import observe_training
from wardround.simulations.privacy.plan import plan_hospitals
from wardround.simulations.run.simulate import simulate, torch_threads

BLIND = (
    "A lower bound above epsilon is a fault. One below it proves nothing: near epsilon 1 an audit "
    "of one run finds noise that is four times too small, and may miss a factor of two.",
    "The canaries check sampling, noise and their accounting. They don't check that real "
    "gradients are clipped (tests do), nor the random generator, nor the ledger.",
    "A loss threshold is a weak attack: that it fails says little. Inversion that fails may "
    "succeed with more steps, another prior or several updates.",
    "None of them sees what patients of one family tell of each other, what preparation and "
    "figures reveal, or what an attacker learns from several runs.",
)
_ROWS = 6


@dataclass(frozen=True)
class Inversions:
    """Attempts on single rows of one hospital: with the bare gradient, and as it is released.

    others : correlation of the rows with each other, which an attacker has for nothing
    """

    hospital: str
    truths: list[Tensor]
    bare: list[Inversion]
    protected: list[Inversion]
    others: float

    @property
    def means(self) -> tuple[float, float]:
        """Mean correlation with the truth: bare, protected."""
        return (
            float(np.mean([one.correlation for one in self.bare])),
            float(np.mean([one.correlation for one in self.protected])),
        )


@dataclass(frozen=True)
class Audit:
    """What the attacks found.

    proven : epsilon by accounting, of the hospital that pays most
    noise_scale : the canaries' run had so much of the noise that belongs there
    private, bare : the loss threshold on the private model and on one trained without privacy
    """

    config: Config
    proven: float
    noise_scale: float
    one_run: OneRun
    private: Membership
    bare: Membership
    inversions: Inversions | None

    @property
    def caught(self) -> bool:
        """Whether the lower bound contradicts the proven epsilon."""
        return self.one_run.lower_bound > self.proven


def audit(config: Config, task: Task[Any], canaries: int = 4000, noise_scale: float = 1.0) -> Audit:
    """Attack the configured training.

    Parameters
    ----------
    canaries : more find smaller faults; 4,000 take seconds
    noise_scale : below 1 weakens the canaries' noise, to see that a fault would be caught

    Raises ConfigError and others of the tree for a configuration that can't be trained.
    """
    with torch_threads(config.simulation.threads):
        return _audit(config, task, canaries, noise_scale)


def _audit(config: Config, task: Task[Any], canaries: int, noise_scale: float) -> Audit:
    population = Population(config, task)
    units = {one.name: one.unit_counts()["train"] for one in population.training()}
    plans = plan_hospitals(config, units)
    delta = config.privacy.delta
    watched = Canaries(canaries, config.privacy.clipping_norm)
    observe_training(config, population, watched, noise_scale)
    off = config.privacy.model_copy(update={"unit": "none"})
    private, totals = _trained_losses(config, task, population, delta)
    bare, _ = _trained_losses(config.model_copy(update={"privacy": off}), task, population, delta)
    return Audit(
        config=config,
        proven=max(one.schedule.epsilon(delta) for one in plans),
        noise_scale=noise_scale,
        one_run=judge(watched.scores, watched.included, delta),
        private=private,
        bare=bare,
        inversions=_inversions(
            config, task, population, totals, plans[0].schedule.noise_multiplier
        ),
    )


def _trained_losses(
    config: Config, task: Task[Any], population: Population, delta: float
) -> tuple[Membership, Sums]:
    """The loss threshold on a model trained as configured, over all hospitals' rows."""
    with tempfile.TemporaryDirectory() as folder:
        federation = config.federation.model_copy(update={"runs": folder})
        simulation = config.simulation.model_copy(update={"baselines": False})
        settings = config.model_copy(update={"federation": federation, "simulation": simulation})
        settings.model_fields_set.discard("task")  # which ``task`` was made of
        result = simulate(settings, task=task)
        model = result.model  # while its files are there
        totals, _ = read_tensors(result.run_directory / "model" / "preparation.safetensors")
    digest = digest_arrays(totals)
    found: dict[str, list[NDArray[np.float64]]] = {"train": [], "test": []}
    for name in population.names:
        examples = population.hospital(name).examples(totals, digest)
        for split, losses in found.items():
            if split in examples:
                with torch.no_grad():
                    outputs = model_outputs(model, examples[split])
                    losses.append(task.loss(outputs, examples[split].targets).double().numpy())
    if not found["test"]:
        raise config.error("data.test_fraction", "must be positive: an attack needs rows held out")
    return loss_threshold(
        np.concatenate(found["train"]), np.concatenate(found["test"]), delta
    ), totals


def _inversions(
    config: Config, task: Task[Any], population: Population, totals: Sums, noise: float
) -> Inversions | None:
    """Rows of the smallest hospital; None where the unit is a hospital or inputs aren't numbers."""
    if config.privacy.unit == "hospital":
        return None
    hospital = min(population.training(), key=lambda one: one.sizes()["train"])
    examples = hospital.examples(totals, digest_arrays(totals))["train"]
    if not examples.inputs.dtype.is_floating_point:
        return None
    model = build_model(task, totals, config.federation.seed).eval()
    truths, bare, protected = [], [], []
    for index in range(min(_ROWS, len(examples))):
        row, target = examples.batch(np.array([index]))
        gradients = gradient_of(model, task.loss, row, target)
        noised = _protected(gradients, config.privacy.clipping_norm, noise)
        truths.append(row)
        bare.append(invert(model, task.loss, gradients, row, target))
        protected.append(invert(model, task.loss, noised, row, target))
    pairs = [correlation(a, b) for a, b in zip(truths, truths[1:], strict=False)]
    others = float(np.mean(pairs)) if pairs else 0.0
    return Inversions(hospital.name, truths, bare, protected, others)


def _protected(gradients: Gradients, norm: float, noise: float) -> Gradients:
    """Clipped and noised, as a step releases it that draws this row alone."""
    flat = torch.cat([g.flatten() for g in gradients]).double().numpy()
    flat = flat * min(1.0, norm / max(float(np.linalg.norm(flat)), 1e-30))
    grid = Grid.for_local(norm, len(flat))
    released = torch.from_numpy(grid.release(flat, noise, NoiseSource.system())).float()
    parts = released.split([g.numel() for g in gradients])  # type: ignore[no-untyped-call]
    return [part.view(g.shape) for part, g in zip(parts, gradients, strict=True)]


def words(found: Audit) -> list[str]:
    """What was found, in sentences; the most important first."""
    run, table = found.one_run, found.config.privacy
    lines = [
        f"Proven: epsilon at most {found.proven:.3g} at delta {table.delta:g}, unit {table.unit}, "
        f"noise {table.noise}.",
        f"Canaries: {run.correct} of {run.guesses} guesses right among {run.canaries}; epsilon is "
        f"at least {run.lower_bound:.2f} ({run.confidence:.0%} confidence).",
    ]
    if found.noise_scale != 1:
        lines.append(f"The canaries' run had {found.noise_scale:g} times the noise that belongs.")
    lines.append(
        "FAULT: the lower bound is above what is proven. The noise, the sampling or the accounting "
        "is wrong."
        if found.caught
        else "The lower bound doesn't contradict what is proven."
    )
    for name, one in (("private model", found.private), ("without privacy", found.bare)):
        few = ", ".join(f"{value:.1%} at {rate:.1%}" for rate, value in one.found.items())
        lines.append(
            f"Loss threshold, {name}: AUC {one.auc:.3f} ({one.interval[0]:.3f} to "
            f"{one.interval[1]:.3f}; 0.5 is guessing) on {one.members} members and {one.others} "
            f"others; members found at a false-positive rate: {few or 'too few records to say'}."
        )
    if found.inversions is not None:
        bare, protected = found.inversions.means
        lines.append(
            f"Inversion of one row's update, mean correlation with the row over "
            f"{len(found.inversions.bare)} rows: bare {bare:.2f}, protected {protected:.2f}; any "
            f"other row of the hospital has {found.inversions.others:.2f}."
        )
    return lines


def is_image(truths: list[Tensor]) -> bool:
    """Whether rows can be shown as pictures: 1 x channels x height x width."""
    return truths[0].dim() == 4 and min(truths[0].shape[-2:]) > 3
