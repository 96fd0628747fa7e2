"""``wardround privacy``: plan a budget, read a ledger, attack one's own run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from wardround.common.command_line import (
    ConfigArgument,
    SetOption,
    example,
    here,
    new_commands,
    new_console,
    new_group,
)
from wardround.common.errors import ConfigError
from wardround.common.settings import SPLIT

if TYPE_CHECKING:  # the command line answers --help without loading torch
    from wardround.common.config.load import Config
    from wardround.simulations.privacy.plan import Alternative, HospitalPlan
    from wardround.simulations.privacy.prices import Prices

_MOST_ROWS = 20
_CANARIES = 4000
_WIDTH = 120  # of the tables, where there is no terminal to ask

commands = new_commands()
privacy = new_group(
    "privacy", "Differential privacy: plan a budget, see what is spent, audit a configuration."
)
commands.add_typer(privacy)


@privacy.command(
    epilog=example("wardround privacy plan --set privacy.unit=example --set privacy.epsilon=3")
)
def plan(
    config: ConfigArgument = None,
    overrides: SetOption = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Training patients (or rows) of each hospital, to plan without any data.",
        ),
    ] = None,
    plot: Annotated[Path, typer.Option(help="Where to write the plot.")] = Path(
        "privacy-plan.html"
    ),
) -> None:
    """Epsilon per hospital and round, and what other choices would cost, before anyone trains."""
    from wardround.common.privacy.incompatible import check_settings
    from wardround.common.run.report.page import write_figures
    from wardround.simulations.privacy.plan import (
        alternatives,
        need_privacy,
        plan_figure,
        plan_hospitals,
        units_of,
    )
    from wardround.simulations.privacy.prices import prices
    from wardround.simulations.run.simulate import load

    settings = load(here(config), list(overrides or []))
    need_privacy(settings, "plan")
    check_settings(settings)
    if not settings.procedure.trains:
        _print_sums(settings, sizes)
        return
    rows, patients = _given(sizes) if sizes else units_of(settings)
    units = patients if settings.privacy.unit == "patient" and patients else rows
    console = new_console(_WIDTH)
    plans = plan_hospitals(settings, units)
    _print_plan(console, plans, settings)
    _print_prices(console, prices(settings, plans))
    _print_alternatives(console, alternatives(settings, rows, patients))
    caption = "Epsilon by round, for each hospital (units)"
    write_figures({caption: plan_figure(plans, settings)}, "Privacy budget", plot)
    console.print(Text(f"plot: {plot}"))


@privacy.command(epilog=example("wardround privacy show kits/north --limit 8"))
def show(
    place: Annotated[
        Path,
        typer.Argument(
            help="A ledger (.sqlite), a hospital's kit, or a run directory.", readable=False
        ),
    ],
    limit: Annotated[
        float | None, typer.Option(help="The hospital's epsilon limit, to tell what is left.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Delta of the figures.")] = None,
    entries: Annotated[bool, typer.Option(help="List every entry.")] = False,
) -> None:
    """What a hospital's ledger says is spent and left."""
    from wardround.simulations.privacy.show import read_ledgers

    console = new_console(_WIDTH)
    for text in read_ledgers(place, limit, delta, entries):
        console.print(text)


@privacy.command(
    epilog=example("wardround privacy audit --set privacy.unit=example --set privacy.epsilon=3")
)
def audit(
    config: ConfigArgument = None,
    overrides: SetOption = None,
    canaries: Annotated[int, typer.Option(min=100, help="More find smaller faults.")] = _CANARIES,
    noise_scale: Annotated[
        float,
        typer.Option(
            min=0.01, help="Weaken the canaries' noise by this factor: a fault must be caught."
        ),
    ] = 1.0,
    page: Annotated[Path, typer.Option(help="Where to write the findings.")] = Path(
        "privacy-audit.html"
    ),
) -> None:
    """Attack a configuration: canaries, membership, inversion. Exits with 10 for a fault.

    Of a split network: outcomes from gradients, features from what crosses.
    """
    from wardround.common.config.task import make_task
    from wardround.simulations.run.simulate import load

    settings = load(here(config), list(overrides or []))
    if settings.procedure.name == SPLIT:
        if (canaries, noise_scale) != (_CANARIES, 1.0):
            raise ConfigError(
                "--canaries and --noise-scale have no effect on a split network; leave them out"
            )
        _audit_split(settings, page)
        return
    from wardround.simulations.privacy.plan import need_privacy

    need_privacy(settings, "audit")
    from wardround.simulations.privacy.attacks.page import write_page
    from wardround.simulations.privacy.attacks.run import BLIND, words
    from wardround.simulations.privacy.attacks.run import audit as run_audit

    found = run_audit(settings, make_task(settings), canaries, noise_scale)
    write_page(found, page)
    console = new_console(_WIDTH)
    for line in words(found):
        console.print(Text(line, style="bold red" if line.startswith("FAULT") else ""))
    console.print(Text("What this can't tell:", style="bold"))
    for line in BLIND:
        console.print(Text(f"- {line}"))
    console.print(Text(f"page: {page}"))
    if found.caught:
        raise typer.Exit(10)


def _audit_split(settings: Config, page: Path) -> None:
    from wardround.common.run.report.page import write_figures
    from wardround.simulations.privacy.attacks.split_rows import split_and_rows
    from wardround.simulations.privacy.attacks.split_run import (
        SPLIT_BLIND,
        audit_split,
        split_words,
    )
    from wardround.simulations.run.simulate import torch_threads

    with torch_threads(settings.simulation.threads):
        found = split_words(audit_split(*split_and_rows(settings), settings.federation.seed))
    sections = {"Found": found, "What this can't tell": list(SPLIT_BLIND)}
    write_figures({}, "Privacy audit of a split network", page, sections)
    console = new_console(_WIDTH)
    for line in found:
        console.print(Text(line))
    console.print(Text("What this can't tell:", style="bold"))
    for line in SPLIT_BLIND:
        console.print(Text(f"- {line}"))
    console.print(Text(f"page: {page}"))


def _given(sizes: str) -> tuple[dict[str, int], dict[str, int]]:
    try:
        counts = [int(part) for part in sizes.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise ConfigError(f"--sizes {sizes}: write whole numbers of at least 1, e.g. 300,200,50")
    named = {f"hospital-{index}": count for index, count in enumerate(counts, 1)}
    return named, named


def _print_sums(settings: Config, sizes: str | None) -> None:
    from wardround.common.config.task import make_task
    from wardround.simulations.population.hospitals import Population
    from wardround.simulations.privacy.of_sums import plan_sums, sums_lines

    names = _given(sizes)[0] if sizes else Population(settings, make_task(settings)).names
    console = new_console(_WIDTH)
    for line in sums_lines(settings, plan_sums(settings, len(names))):
        console.print(Text(line))


def _print_plan(console: Console, plans: list[HospitalPlan], config: Config) -> None:
    from wardround.simulations.privacy.plan import shown_rounds

    table, rounds = config.privacy, shown_rounds(config)
    aim = f"epsilon {table.epsilon:g}" if table.epsilon else f"noise {table.noise_multiplier:g}"
    console.print(
        Text(
            f"unit {table.unit}, noise {table.noise}, {aim}, delta {table.delta:g}, "
            f"{config.federation.rounds} rounds"
        )
    )
    shown = Table(
        title="Each hospital, the smallest first; epsilon after so many rounds",
        title_justify="left",
    )
    shown.add_column("hospital", no_wrap=True)
    for name in ("units", "sampling rate", "steps", "noise multiplier"):
        shown.add_column(name, justify="right")
    for number in rounds:
        shown.add_column(f"after {number}", justify="right")
    for one in plans[:_MOST_ROWS]:
        schedule = one.schedule
        shown.add_row(
            escape(one.hospital),
            str(one.units),
            f"{schedule.sampling_rate:.3g}",
            str(schedule.steps * schedule.rounds),
            f"{schedule.noise_multiplier:.3g}",
            *(f"{value:.3g}" for value in one.epsilons(table.delta, rounds)),
        )
    console.print(shown)
    if len(plans) > _MOST_ROWS:
        console.print(Text(f"and {len(plans) - _MOST_ROWS} larger hospitals"))
    for line in _remarks(plans, config):
        console.print(Text(line))


def _remarks(plans: list[HospitalPlan], config: Config) -> list[str]:
    """What a coordinator should notice."""
    table, small, large = config.privacy, plans[0], plans[-1]
    lines = []
    if table.stepwise and small.units < large.units:
        if table.epsilon is None:
            lines.append(
                f"Small hospitals cost more: {small.hospital} ({small.units}) spends "
                f"{small.schedule.epsilon(table.delta):.3g} where {large.hospital} "
                f"({large.units}) spends {large.schedule.epsilon(table.delta):.3g}."
            )
        else:
            lines.append(
                f"Small hospitals cost more: {small.hospital} ({small.units}) needs noise "
                f"{small.schedule.noise_multiplier:.3g} for the epsilon that {large.hospital} "
                f"({large.units}) has with {large.schedule.noise_multiplier:.3g}."
            )
    total = sum(one.units for one in plans)
    if table.unit != "hospital" and table.delta * total > 0.1:
        lines.append(
            f"delta = {table.delta:g} is large for {total} units in all; below {0.1 / total:.1g} "
            "it means something"
        )
    if table.unit == "hospital":
        lines.append("A hospital as unit hides whether it took part at all; few hospitals pay much")
    return lines


def _print_prices(console: Console, found: Prices) -> None:
    shown = Table(title="What each purpose costs, where it is dearest", title_justify="left")
    for name in ("purpose", "units that pay"):
        shown.add_column(name, no_wrap=True)
    for name in ("noised sums", "noise multiplier", "epsilon alone"):
        shown.add_column(name, justify="right")
    for one in found.prices:
        shown.add_row(
            one.purpose,
            one.who,
            str(one.sums),
            f"{one.noise_multiplier:.3g}",
            f"{one.epsilon:.3g}",
        )
    console.print(shown)
    every = [f"{value:.3g} of a {who} unit" for who, value in found.epsilons.items()]
    console.print(Text(f"all together: epsilon {', '.join(every)}"))
    for purpose, why in found.exact.items():
        console.print(Text(f"not covered: {purpose} ({why})"))


def _print_alternatives(console: Console, found: list[Alternative]) -> None:
    shown = Table(
        title="Other choices, for as many passes over the data (noise: in each step of the shared "
        "model, in clipping norms)",
        title_justify="left",
    )
    for name in ("unit", "noise from", "batch size"):
        shown.add_column(name, no_wrap=True)
    for name in ("rounds", "noise multiplier", "epsilon", "noise"):
        shown.add_column(name, justify="right")
    for one in found:
        shown.add_row(
            one.unit + (" *" if one.chosen else ""),
            one.noise_place,
            str(one.batch_size or "-"),
            str(one.rounds),
            f"{one.noise_multiplier:.3g}",
            f"{one.epsilon:.3g}",
            f"{one.noise:.3g}",
            style="bold" if one.chosen else "",
        )
    console.print(shown)
    console.print(Text("* as configured"))
