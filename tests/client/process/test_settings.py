"""A client that lives on through several runs takes part in each by that run's settings alone.

Every key of the configuration is changed between two runs of the same processes, which must come to
what fresh ones come to: the model's bytes, figures, and what the ledgers say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from flwr.app import RecordDict

from tests.campaign.space import space, strategy_options
from tests.client.process.lives import Lives
from wardround.client.site.policy import SitePolicy
from wardround.common.config.covers import check_covers
from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.errors import ConfigError, PolicyRefused
from wardround.common.privacy.noise import NoiseSource
from wardround.common.protocol import names as m
from wardround.common.trust.pki import now_utc
from wardround.server.provision.kits import provision

BASE = """
[federation]
name = "lives"
rounds = 1
min_clients = 3
[task.columns]
target = "ill"
numeric = ["first", "second"]
categorical = ["ward"]
patient_id = "patient"
[server]
hospitals = ["a", "b", "c"]
"""
OPEN, MASKED = "secure_aggregation.enabled=false", "secure_aggregation.enabled=true"
PRIVATE = ("privacy.unit='patient'", "privacy.epsilon_limit=1e4")
LOCAL = (OPEN, *PRIVATE, "privacy.noise='local'")
RICH = (
    OPEN,
    "training.schedule='step'",
    "training.distillation=0.5",
    "task.model.kind='mlp'",
    "task.columns.categories={ward=['north','south']}",
    "federation.rounds=3",
    "federation.min_clients=2",
    "strategy.name='fedprox'",
)
BEDS: tuple[tuple[str, ...], ...] = (
    (OPEN,),
    RICH,
    *((OPEN, f"strategy.name='{name}'") for name in ("fedadam", "feddyn")),
    (OPEN, "compression.bits=8"),
    (OPEN, "federation.pace='buffered'", "federation.buffer=3", "federation.rounds=3"),
    (MASKED,),
    (*LOCAL, "privacy.noise_multiplier=2.0"),
    (*LOCAL, "privacy.epsilon=20.0"),
    (*LOCAL, "privacy.noise_multiplier=2.0", "privacy.clipping='adaptive'"),
    (MASKED, *PRIVATE, "privacy.noise_multiplier=4.0", "training.local_steps=1"),
)
"""What a key may need beside it, the cheapest first."""
OWN = {"federation.rounds": 2, "task.normalise": "none", "task.columns.numeric": ["first"]}
"""Values for keys that the campaign leaves out, or where its own would say nothing here."""
ELSEWHERE = {
    "federation.clients_per_round": "of three hospitals none can stay away: min_cohort",
    "training.checkpoint_activations": "for models of blocks",
    "training.precision": "the hospital's own: below",
    "federation.pace": "with max_staleness, which no other pace has",
    "federation.buffer": "of three hospitals no fewer may be a group: min_cohort",
    "evaluation.clients": "as clients_per_round",
    "privacy.shares.preparation": "of a preparation with noise, which hides all of so few rows",
    "privacy.epsilon_limit": "of a run that it forbids nothing is left",
    "secure_aggregation.min_cohort": "below 3 is this hospital's own",
}
"""Keys that no second run is made with, and why."""
Key = tuple[str, Any]


def keys() -> Iterator[Key]:
    """Every key that hospitals are told, with another value than its default."""
    yield from ((key, some[1]) for key, some in space("binary").items() if "simulation" not in key)
    for name in ("fedprox", "fedadam", "feddyn"):
        yield from ((key, some[1]) for key, some in strategy_options(name).items())
    yield from OWN.items()


def set_to(bed: Sequence[str], chosen: Iterable[Key]) -> Config:
    """Raises ConfigError also where a key wouldn't be heard of."""
    texts = [f"{key}={tomli_w.dumps({'x': x}).partition('=')[2].strip()}" for key, x in chosen]
    config = parse_config(BASE, [*bed, *texts])
    check_covers(config)
    if any(key in note for note in config.notes for key, _ in chosen):
        raise ConfigError("without effect")
    return config


def groups() -> list[tuple[tuple[str, ...], list[Key]]]:
    """All keys, in as few runs as they fit into; of each bed one after the other."""
    found: list[tuple[tuple[str, ...], list[Key]]] = []
    for key in keys():
        if key[0] in ELSEWHERE:
            continue
        beds = BEDS[-1:] if key[0] == "privacy.noise" else BEDS  # shares are of masked sums
        bed = next(bed for bed in beds if fits(bed, [key]))
        for other, chosen in found:
            if other == bed and chosen[-1][0] != "privacy.unit" and fits(bed, [*chosen, key]):
                chosen.append(key)
                break
        else:
            found.append((bed, [key]))
    # what protected examples only counts against patients, for ever: they come last
    return sorted(found, key=lambda one: ("privacy.unit" in dict(one[1]), BEDS.index(one[0])))


def fits(bed: Sequence[str], chosen: list[Key]) -> bool:
    try:
        return set_to(bed, chosen) != set_to(bed, chosen[:-1])
    except ConfigError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three hospitals' rows: two numbers, a ward, a patient, and who is ill."""
    generator = np.random.default_rng(5)
    (tmp_path / "data").mkdir()
    for name in "abc":
        rows = ["first,second,ward,patient,ill"]
        for number in range(40):
            x, y = generator.normal(size=2)
            ward = "north" if generator.random() < 0.5 else "south"
            ill = int(x - 0.5 * y + generator.normal() > 0)
            rows.append(f"{x:.4f},{y:.4f},{ward},{name}{number // 2},{ill}")
        (tmp_path / "data" / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


SITE = "require_secure_aggregation = false\nmax_delta = 0.01\n"


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise that comes again, so that private runs can be compared; and a disk that doesn't wait.
    (What is on the disk when is held by tests/deployment.)"""
    monkeypatch.setattr(NoiseSource, "system", lambda: NoiseSource.seeded(7, "lives"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_every_key_that_changes_between_two_runs_of_one_client(
    folder: Path, repeatable: None
) -> None:
    file = folder / "federation.toml"
    file.write_text(parse_config(BASE, [OPEN]).to_toml(folder))
    lives = Lives(file, SITE)
    lives.run()
    for number, (bed, chosen) in enumerate(groups()):
        config = set_to(bed, chosen)
        file.write_text(config.to_toml(folder))
        fresh = Lives(file, SITE, f"fresh-{number}")
        rounded = config.secure_aggregation.enabled or config.compression.bits is not None
        assert_same(lives.run(), fresh.run(), rounded)
        fresh.close()
    lives.close()


def assert_same(here: dict[str, Any], there: dict[str, Any], rounded: bool) -> None:
    """All but what updates are rounded to, which is drawn anew: by steps of their grid."""
    models = [{k: np.array(v) for k, v in one.pop("model").items()} for one in (here, there)]
    for name, value in models[0].items():
        np.testing.assert_allclose(value, models[1][name], atol=0.015 if rounded else 0, rtol=0)
    if rounded:
        del here["figures"], there["figures"]
    assert here == there


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_key_of_both_files_makes_other_terms(folder: Path) -> None:
    """Those of the walk above, too: nothing is left to a list of what matters."""
    file = folder / "federation.toml"
    file.write_text(parse_config(BASE, [OPEN]).to_toml(folder))
    lives = Lives(file, SITE)
    terms = lives.processes["a"].own.rules.terms
    lives.close()
    tables = terms.config.model_dump()
    for table, values in tables.items():
        for key in values or ():
            changed = getattr(terms.config, table).model_copy(update={key: "another"})
            config = terms.config.model_copy(update={table: changed})
            assert f"{table}.{key}" in replace(terms, config=config).others(terms)
    for key in SitePolicy.model_fields:
        site = terms.site.model_copy(update={key: "another"})
        assert f"site.toml.{key}" in replace(terms, site=site).others(terms)
    assert replace(terms, files={Path("x.py"): "0"}).others(terms) and not terms.others(terms)


TASK = """
from wardround.common.tasks.tabular import TabularTask
class Mine(TabularTask):
    def loss(self, outputs, targets):
        return super().loss(outputs, targets) * {weight}
"""


def test_a_task_file_that_is_edited_in_place_is_the_next_plans(folder: Path) -> None:
    """At both ends; and between two plans nothing is answered by either content."""
    file, task = folder / "federation.toml", folder / "mine.py"
    task.write_text(TASK.format(weight=1))
    text = parse_config(BASE, [OPEN]).to_toml(folder)
    file.write_text(text.replace('name = "tabular"', f'name = "{task.name}:Mine"'))
    site = SITE + f'[task_files]\n"mine.py:Mine" = "{task}"\n'
    lives = Lives(file, site)
    first = lives.run()
    task.write_text(TASK.format(weight=2))
    second, fresh = lives.run(), Lives(file, site, "fresh")
    assert second["model"] != first["model"]
    assert_same(second, fresh.run(), rounded=False)
    fresh.close()
    task.write_text(TASK.format(weight=3))
    with pytest.raises(PolicyRefused, match="mine.py was edited; the plan is to be shown again"):
        lives.processes["a"].own.rules.may_begin(m.DESCRIBE, None)
    lives.close()


def test_rules_that_are_edited_in_a_run_are_its_own_once_the_plan_is_shown_again(
    folder: Path,
) -> None:
    """Nothing is done by them before, and nothing by the old ones either."""
    file = folder / "federation.toml"
    file.write_text(parse_config(BASE, [OPEN]).to_toml(folder))
    lives = Lives(file, SITE)
    lives.run()
    rules, work = lives.processes["a"].own.rules, lives.processes["a"].own.place.work
    before = work.hospital
    lives.site(SITE + "precision = 'bf16'\n")
    for act in (
        lambda: rules.may_begin(m.DESCRIBE, None),
        lambda: rules.may_leave(m.DESCRIBE, RecordDict()),
    ):
        with pytest.raises(PolicyRefused, match="site.toml was edited; the plan is to be shown"):
            act()
    assert "site.toml was edited" in str(rules.note_decisions())
    assert work.hospital is before and before.config.training.precision == "float32"
    lives.site(SITE)
    rules.may_begin(m.DESCRIBE, None)  # it is what was accepted again
    lives.site(SITE + "precision = 'bf16'\n")
    fresh = Lives(file, SITE + "precision = 'bf16'\n", "fresh")
    assert_same(lives.run(), fresh.run(), rounded=False)
    assert work.hospital is not before and work.hospital.config.training.precision == "bf16"
    fresh.close()
    lives.close()


def test_a_new_description_touches_nothing_until_a_plan_is_accepted(folder: Path) -> None:
    file = folder / "federation.toml"
    file.write_text(parse_config(BASE, [OPEN]).to_toml(folder))
    lives = Lives(file, SITE)
    lives.run()
    process = lives.processes["a"]
    hospital, roster = process.own.place.work.hospital, process.own.place.work.hospital.roster
    more = [OPEN, "training.lr=0.3", "server.hospitals=['a', 'b', 'c', 'd']"]
    file.write_text(parse_config(BASE, more).to_toml(folder))
    made = provision(load_config(file), now=now_utc())
    process.described((made.folder / "server" / "federation.signed").read_bytes())
    assert process.own.place.work.hospital is hospital and hospital.roster is roster
    assert hospital.config.training.lr == 0.05 and "d" not in roster
    assert "d" in process.kit.description.roster
    with pytest.raises(PolicyRefused, match="no run manifest was accepted"):
        process.own.rules.may_begin(m.DESCRIBE, None)
    lives.close()
