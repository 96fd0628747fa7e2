"""Small federations that send every message that there is, in every form that settings give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ConfigRecord, Message

from tests.protocol.capture import Capture, Crossed, Tamper, capturing
from tests.protocol.exact import ROWS, Exact, settings
from wardround.common.errors import WardroundError
from wardround.simulations import analyse, simulate

_PLAIN = ("secure_aggregation.enabled=false",)
_MASKED = ("secure_aggregation.enabled=true",)
_EXAMPLE = ('privacy.unit="example"', "privacy.noise_multiplier=1.0", "privacy.delta=1e-3")
_PATIENT = ('privacy.unit="patient"', *_EXAMPLE[1:])
_HOSPITAL = ('privacy.unit="hospital"', *_EXAMPLE[1:])
_ADAPTIVE = ('privacy.clipping="adaptive"',)
_SUMMED = ("training.local_steps=1",)
_BUFFERED = ('federation.pace="buffered"', "federation.buffer=3")
_BEST = ('evaluation.select="best"',)
_JUDGED = (
    *("federation.rounds=1", "data.test_fraction=0.5", "simulation.baselines=false"),
    'judgement.groups=["ward"]',
)
_OUTSIDE = {"outside": "test a 1 1\n"}
"""A hospital that only evaluates."""


def _noise(place: str) -> tuple[str]:
    return (f'privacy.noise="{place}"',)


def _strategy(name: str, *options: str) -> tuple[str, ...]:
    return (f'strategy.name="{name}"', *(f"strategy.{option}" for option in options))


@dataclass(frozen=True)
class Scenario:
    """One federation.

    overrides : settings, as 'table.key=value'
    exact : whether all of its numbers are powers of two and small sums of them
    single : whether every client is asked by itself, as between machines
    described : whether small tables are described, instead of training
    judged : whether a model of such tables is trained, and then judged by groups
    linked : whether persons of two places are linked, instead
    """

    overrides: tuple[str, ...]
    exact: bool = False
    single: bool = True
    task: Mapping[str, bool] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=lambda: ROWS)
    described: bool = False
    judged: bool = False
    linked: bool = False
    tamper: Tamper = lambda message: None


def run(scenario: Scenario, folder: Path) -> list[Crossed]:
    """The messages of a federation, in order; a last line says that it stopped with an error."""
    capture = Capture(scenario.exact, scenario.single, scenario.tamper)
    place = f"federation.runs={folder / 'runs'}"
    config = settings(folder, place, *scenario.overrides, rows=scenario.rows)
    with capturing(capture):
        try:
            if scenario.judged:
                simulate(_tables(folder, 16, 16, 16), overrides=[place, *scenario.overrides])
            elif scenario.linked:
                analyse(_places(folder), overrides=[place, *scenario.overrides])
            elif scenario.described:
                analyse(_tables(folder, 6, 8, 2), overrides=[place, *scenario.overrides])
            else:
                simulate(config, task=Exact(**scenario.task))
        except WardroundError as error:
            capture.crossed.append(Crossed("run", "=", "stopped", [type(error).__name__]))
    return capture.crossed


def _tables(folder: Path, *sizes: int) -> Path:
    """Three hospitals with a number, a category that isn't declared, and patients."""
    (folder / "tables").mkdir()
    for hospital, rows in zip("abc", sizes, strict=True):
        lines = [f"{n % 4},{'east' if n % 3 else 'west'},{n % 2},p{n // 2}" for n in range(rows)]
        (folder / "tables" / f"{hospital}.csv").write_text(
            "number,ward,ill,patient\n" + "\n".join(lines) + "\n"
        )
    path = folder / "described.toml"
    path.write_text(
        '[data]\npath = "tables"\n[task]\nname = "tabular"\nmin_category_count = 1\n'
        '[task.columns]\ntarget = "ill"\nnumeric = ["*"]\ncategorical = ["ward"]\n'
        'patient_id = "patient"\n'
    )
    return path


def _places(folder: Path) -> Path:
    """Two parties, of which one has 5 persons and the other 6; 4 are the same."""
    (folder / "tables").mkdir()
    for name, column, persons in (("lab", "crp", range(1, 6)), ("ward", "age", range(2, 8))):
        rows = "".join(f"p{n},{n}.5\n" for n in persons)
        (folder / "tables" / f"{name}.csv").write_text(f"person,{column}\n{rows}")
    path = folder / "linked.toml"
    path.write_text(
        '[data]\npath = "tables"\n[task]\nname = "linked"\n[task.identifiers]\nperson = "exact"\n'
        '[task.parties.lab]\nnumeric = ["crp"]\n[task.parties.ward]\nnumeric = ["age"]\n'
        '[procedure]\nname = "linkage"\nsmallest = 3\npadded = 2\n'
    )
    return path


def _other_protocol(message: Message) -> None:
    if message.metadata.message_type == "query.describe" and message.metadata.dst_node_id == 4:
        message.content["config"] = ConfigRecord({"protocol": 1})


def _unmasked(message: Message) -> None:
    """The server asks one hospital for a plain update after all."""
    if message.metadata.message_type == "train" and message.metadata.dst_node_id == 1:
        del message.content["secagg"]


def _wrong(**values: int | str | list[str]) -> Tamper:
    """Requests for training of one hospital with these values in their config."""

    def tamper(message: Message) -> None:
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 1:
            old = message.content["config"]
            assert isinstance(old, ConfigRecord)
            changed = {name.replace("_", "-"): value for name, value in values.items()}
            message.content["config"] = ConfigRecord(dict(old) | changed)

    return tamper


def scenarios() -> dict[str, Scenario]:
    """By name."""
    return _plain() | _masked() | _private() | _refused() | _described()


def _described() -> dict[str, Scenario]:
    return {
        "described": Scenario(_PLAIN, described=True),
        "described, masked": Scenario(_MASKED, described=True),
        "linked": Scenario((), linked=True),
        "judged": Scenario((*_MASKED, *_JUDGED), judged=True),
    }


def _plain() -> dict[str, Scenario]:
    counts, frozen = {"counts": True}, {"frozen": True}
    personal = ('strategy.personal_layers=["*bias"]', *_BEST)
    return {
        "fedavg": Scenario(_PLAIN, exact=True),
        "fedavg, uniform": Scenario((*_PLAIN, 'strategy.weighting="uniform"'), exact=True),
        "fedavg, buffers": Scenario(_PLAIN, exact=True, task=counts),
        "fedavg, frozen entries": Scenario(_PLAIN, exact=True, task=frozen),
        "fedavg, best round": Scenario((*_PLAIN, *_BEST), exact=True),
        "fedavg, a hospital that only evaluates": Scenario(
            _PLAIN, exact=True, rows=ROWS | _OUTSIDE
        ),
        "fedprox": Scenario((*_PLAIN, *_strategy("fedprox", "proximal_mu=0.5")), exact=True),
        "fedadam": Scenario((*_PLAIN, *_strategy("fedadam", "eta=0.5"))),
        "fedavgm": Scenario((*_PLAIN, *_strategy("fedavgm", "server_momentum=0.5")), exact=True),
        "scaffold": Scenario((*_PLAIN, *_strategy("scaffold")), exact=True),
        "feddyn": Scenario((*_PLAIN, *_strategy("feddyn", "alpha=0.5")), exact=True),
        "fednova": Scenario((*_PLAIN, *_strategy("fednova")), exact=True),
        "fedmedian": Scenario((*_PLAIN, *_strategy("fedmedian")), exact=True),
        "buffered": Scenario((*_PLAIN, *_BUFFERED)),
        "compressed": Scenario((*_PLAIN, "compression.bits=8")),
        "personal entries": Scenario((*_PLAIN, *personal), exact=True),
        "personal entries, scaffold": Scenario(
            (*_PLAIN, *personal, *_strategy("scaffold")), exact=True
        ),
        "a group": Scenario(_PLAIN, exact=True, single=False),
        "a group, uniform, fedprox, frozen entries": Scenario(
            (
                *_PLAIN,
                *_strategy("fedprox", "proximal_mu=0.5"),
                'strategy.weighting="uniform"',
            ),
            exact=True,
            single=False,
            task=frozen,
        ),
        "a group, fednova, buffers": Scenario(
            (*_PLAIN, *_strategy("fednova")), exact=True, single=False, task=counts
        ),
        "a group, some drop out": Scenario(
            (*_PLAIN, "simulation.dropout=0.4", "federation.rounds=3"), exact=False, single=False
        ),
        "a group drawn per round": Scenario(
            (*_PLAIN, "federation.clients_per_round=2"), single=False
        ),
    }


def _masked() -> dict[str, Scenario]:
    return {
        "masked": Scenario(_MASKED),
        "masked, 16 bits, most examples": Scenario(
            (*_MASKED, "secure_aggregation.bits=16", "secure_aggregation.max_examples=2")
        ),
        "masked, buffers and a frozen entry": Scenario(
            _MASKED, task={"counts": True, "frozen": True}
        ),
        "masked, buffered": Scenario((*_MASKED, *_BUFFERED)),
        "masked, compressed": Scenario((*_MASKED, "compression.bits=8")),
        "masked scaffold": Scenario((*_MASKED, *_strategy("scaffold"))),
        "masked, personal entries, best round": Scenario(
            (*_MASKED, 'strategy.personal_layers=["*bias"]', *_BEST)
        ),
        "masked, blind": Scenario((*_MASKED, "secure_aggregation.blind=true")),
        "masked, blind, drawn per round": Scenario(
            (*_MASKED, "secure_aggregation.blind=true", "federation.clients_per_round=3")
        ),
        "masked, drawn per round": Scenario((*_MASKED, "federation.clients_per_round=3")),
        "masked, a hospital that only evaluates": Scenario(_MASKED, rows=ROWS | _OUTSIDE),
    }


def _private() -> dict[str, Scenario]:
    return {
        "examples, own noise": Scenario((*_PLAIN, *_EXAMPLE)),
        "examples, own noise, masked": Scenario((*_MASKED, *_EXAMPLE)),
        "patients, own noise": Scenario((*_PLAIN, *_PATIENT)),
        "examples, distributed noise": Scenario(
            (*_MASKED, *_EXAMPLE, *_SUMMED, *_noise("distributed"))
        ),
        "examples, central noise": Scenario((*_PLAIN, *_EXAMPLE, *_SUMMED, *_noise("central"))),
        "examples, central noise, masked": Scenario(
            (*_MASKED, *_EXAMPLE, *_SUMMED, *_noise("central"))
        ),
        "examples, distributed noise, adaptive": Scenario(
            (*_MASKED, *_EXAMPLE, *_SUMMED, *_noise("distributed"), *_ADAPTIVE)
        ),
        "hospitals, own noise": Scenario((*_PLAIN, *_HOSPITAL)),
        "hospitals, own noise, adaptive": Scenario((*_PLAIN, *_HOSPITAL, *_ADAPTIVE)),
        "hospitals, central noise, adaptive": Scenario(
            (*_PLAIN, *_HOSPITAL, *_ADAPTIVE, *_noise("central"))
        ),
        "hospitals, distributed noise, adaptive": Scenario(
            (*_MASKED, *_HOSPITAL, *_ADAPTIVE, *_noise("distributed"))
        ),
    }


def _refused() -> dict[str, Scenario]:
    def limit(epsilon: float) -> tuple[str, ...]:
        return (*_HOSPITAL, f"privacy.epsilon_limit={epsilon}")

    return {
        "refused: another protocol": Scenario(_PLAIN, exact=True, tamper=_other_protocol),
        "refused: a plain request": Scenario(_MASKED, tamper=_unmasked),
        "refused: the budget": Scenario((*_PLAIN, *limit(1.0))),
        "refused: the budget, masked": Scenario((*_MASKED, *limit(1.0))),
        "a budget for one round": Scenario((*_PLAIN, *limit(4.0))),
        "refused: an unknown algorithm": Scenario(_PLAIN, tamper=_wrong(algorithm="other")),
        "refused: an unknown algorithm, of a group": Scenario(
            _PLAIN, single=False, tamper=_wrong(algorithm="other")
        ),
        "refused: no state-round": Scenario(_PLAIN, tamper=_wrong(state_round="one")),
        "refused: an array too many": Scenario(_PLAIN, tamper=_wrong(local_keys=["0.bias"])),
        "refused: other totals": Scenario(_PLAIN, tamper=_wrong(totals_digest="00")),
        "refused: other frozen entries": Scenario(
            _PLAIN, tamper=_wrong(frozen="00"), task={"frozen": True}
        ),
        "some drop out": Scenario((*_PLAIN, "simulation.dropout=0.4")),
        "some drop out before they unmask": Scenario(
            (*_MASKED, "simulation.unmask_dropout=0.1", "federation.rounds=3")
        ),
    }
