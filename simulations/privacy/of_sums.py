"""``wardround privacy plan`` of a study that trains nothing: its sums, and the noise on each."""

from __future__ import annotations

from dataclasses import dataclass

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.privacy.sums import step_release, steps_epsilon, summed_noise
from wardround.common.procedures.known import make_procedure, steps_of
from wardround.server.privacy.honest import fewest_honest


@dataclass(frozen=True)
class SumsPlan:
    """What a procedure's sums cost, whatever the data are.

    steps : noised sums at most
    epsilon : of all of them and the announced sizes, at ``privacy.delta``
    noise_multiplier : of each
    changes : the most (L2) that a unit changes a step's sums
    noise : standard deviation on each number of a sum, by how many hospitals are in it
    """

    steps: int
    epsilon: float
    noise_multiplier: float
    changes: float
    noise: dict[int, float]


def plan_sums(config: Config, hospitals: int) -> SumsPlan:
    """The plan over so many hospitals, and over the fewest that do. Raises ConfigError where there
    is no noise for what is asked."""
    table, steps = config.privacy, steps_of(config)
    procedure = make_procedure(config, make_task(config))
    changes = procedure.sensitivity(table.records_per_patient if table.unit == "patient" else 1)
    counts = sorted({min(hospitals, config.federation.min_clients), hospitals})
    noise = {
        count: summed_noise(config, steps, changes, count, fewest_honest(config, count))
        for count in counts
    }
    release = step_release(config, steps)
    return SumsPlan(steps, steps_epsilon(config, steps), release.noise_multiplier, changes, noise)


def sums_lines(config: Config, plan: SumsPlan) -> list[str]:
    """It in sentences."""
    table, name = config.privacy, config.procedure.called
    lines = [
        f"unit {table.unit}, noise {table.noise}, procedure '{name}': no model is trained",
        f"at most {plan.steps} noised sums, noise multiplier {plan.noise_multiplier:.3g}; all "
        f"together, with the announced sizes: epsilon {plan.epsilon:.3g} at delta {table.delta:g}, "
        "the same at each hospital",
        f"one {table.unit} changes a sum by at most {plan.changes:.4g} (L2)"
        + (
            f", with {table.records_per_patient} rows (privacy.records_per_patient: as many as "
            "patients have, and no more, gives the least noise)"
            if table.unit == "patient"
            else ""
        ),
    ]
    lines += [
        f"standard deviation on each count of {count} hospital{'s' * (count != 1)}: {noise:.3g}"
        for count, noise in plan.noise.items()
    ]
    if table.noise == "local" and config.secure_aggregation.enabled:
        lines.append("--set privacy.noise=distributed: hospitals' shares make one noise of it")
    return lines
