"""A split network as parties of a joint procedure: letters, links, figures, kills."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import ConfigError, JointRefused
from wardround.common.joint import Me, Party
from wardround.common.joint.known import make_joint
from wardround.common.joint.links import Link
from wardround.common.split.cost import spent
from wardround.common.split.party import TOLD
from wardround.common.split.procedure import Split
from wardround.simulations import analyse

PERSONS = 48
TOML = """
[task]
name = "linked"
[task.identifiers]
id = "exact"
[task.parties.clinic.images]
size = [8, 8]
[task.parties.lab]
numeric = ["crp", "constant"]
categorical = {{ sex = ["f", "m"] }}
[task.parties.registry]
numeric = ["age"]
outcome = "died"
[procedure]
name = "split"
link = "who"
batches = 5
batch_size = 8
held_out = 16
width = 3
hidden = 5
channels = 4
{more}
"""


@dataclass
class OwnLinks:
    """The link of a party whose rows are in the persons' order, and one more person's first."""

    digest: bytes = b"d" * 32
    persons: int = PERSONS

    def open(self, name: str, study: str, keys: Any) -> Link:
        assert name == "who"
        return Link(np.arange(1, self.persons + 1), self.digest)


def config(more: str = "") -> Config:
    return parse_config(TOML.format(more=more))


def write_rows(folder: Path) -> None:
    """Three unlike parties: pictures, dark or light by the outcome, a table with gaps, the outcome
    itself; each has one person more than are linked."""
    generator = np.random.default_rng(3)
    died = generator.integers(0, 2, PERSONS + 1)
    lines: dict[str, list[str]] = {
        "clinic": ["id,file"],
        "lab": ["id,crp,constant,sex"],
        "registry": ["id,age,died"],
    }
    for person, truth in enumerate(died):
        pixels = generator.integers(0, 100, (8, 8)) + 150 * truth
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{person}.png")
        crp = "" if person % 7 == 0 else f"{generator.normal():.3f}"
        lines["clinic"].append(f"p{person},{person}.png")
        lines["lab"].append(f"p{person},{crp},4,{'fm'[person % 2]}")
        lines["registry"].append(f"p{person},{generator.integers(30, 90)},{truth}")
    for name, text in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")


def made(folder: Path, settings: Config) -> tuple[Split, dict[str, Me]]:
    task = make_task(settings)
    split = make_joint(settings, task)
    assert isinstance(split, Split)
    found = {}
    for name in split.parties:
        rows = task.at(task.load(folder / f"{name}.csv"), name)
        secret = name.encode().ljust(32)
        found[name] = Me(name, split.parties, secret, b"s" * 32, rows, links=OwnLinks())
    return split, found


def run(split: Split, parties: dict[str, Me], kill: bool = False) -> tuple[dict[str, str], Any]:
    """All steps; ``kill``: before each every party is made anew of its last state."""
    live: dict[str, Party] = {name: split.party(me) for name, me in parties.items()}
    letters: dict[str, dict[str, bytes]] = {name: {} for name in parties}
    told, kept = {}, {}
    for number in range(split.most_steps):
        turns = {name: one.step(number, letters[name]) for name, one in live.items()}
        letters = {
            name: {who: turn.letters[name] for who, turn in turns.items() if name in turn.letters}
            for name in parties
        }
        assert all(
            len(one) == split.letter_bytes or number < 2 * split.options.batches
            for turn in turns.values()
            for one in turn.letters.values()
        )
        for name, turn in turns.items():
            assert turn.over == (number == split.most_steps - 1)
            told |= turn.told
            kept[name] = turn.kept
        if kill:
            states = {name: one.state() for name, one in live.items()}
            live = {n: split.party(replace(me, state=states[n])) for n, me in parties.items()}
    return told, kept


@pytest.mark.parametrize("more", ["", "clip = 0.5\nnoise_multiplier = 0.5\n"])
def test_parties_that_are_killed_at_each_step_tell_the_same(tmp_path: Path, more: str) -> None:
    write_rows(tmp_path)
    split, parties = made(tmp_path, config(more))
    told, kept = run(split, parties)
    again, kept_again = run(split, parties, kill=True)
    assert told == again
    for name in parties:
        assert all((kept[name][key] == kept_again[name][key]).all() for key in kept[name])
    figures = json.loads(told[TOLD])
    assert len(told[TOLD]) <= split.told[TOLD]
    assert 0 <= figures["auc"] <= 1 and 0 <= figures["auc_alone"] <= 1
    assert figures["epsilon"] == (round(spent(split.options, PERSONS), 3) if more else None)


def test_pictures_that_tell_the_outcome_are_learnt(tmp_path: Path) -> None:
    write_rows(tmp_path)
    split, parties = made(tmp_path, config("learning_rate = 0.02").model_copy())
    longer = replace_batches(split, 40)
    told, _ = run(longer, parties)
    figures = json.loads(told[TOLD])
    assert figures["auc"] > 0.95 > 0.9 > figures["auc_alone"]


def replace_batches(split: Split, batches: int) -> Split:
    options = split.options.model_copy(update={"batches": batches})
    return Split(options, split.task, split.holder, split.seed)


def test_parties_of_other_links_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path)
    split, parties = made(tmp_path, config())
    other = replace(parties["lab"], links=OwnLinks(b"e" * 32))
    fewer = replace(parties["lab"], links=OwnLinks(persons=PERSONS - 1))
    for one in (other, fewer):
        with pytest.raises(JointRefused, match="links aren't the same"):
            run(split, parties | {"lab": one})
    few = {n: replace(me, links=OwnLinks(persons=20)) for n, me in parties.items()}
    with pytest.raises(JointRefused, match="too few persons"):
        run(split, few)


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (lambda one: one[:-4], "another length"),
        (lambda one: one[:-4] + np.float32("nan").tobytes(), "isn't finite"),
        (lambda one: bytes(32) + one[32:], "links aren't the same"),
    ],
)
def test_letters_of_another_form_are_refused(tmp_path: Path, letter: Any, why: str) -> None:
    write_rows(tmp_path)
    split, parties = made(tmp_path, config())
    sent = {n: split.party(parties[n]).step(0, {}).letters["registry"] for n in split.features}
    holder = split.party(parties["registry"])
    assert holder.step(0, {}).letters == {}
    with pytest.raises(JointRefused, match=why):
        holder.step(1, sent | {"lab": letter(sent["lab"])})


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('outcome = "died"', 'time = "t"\nevent = "e"', "needs an outcome of two classes"),
        ("batches = 5", "noise_multiplier = 1.0", "procedure.clip: noise_multiplier hides"),
        ("batches = 5", "delta = 1e-6", "procedure.delta: has no effect"),
        ('link = "who"', "", "procedure.link"),
        ("channels = 4", "channels = 6", "procedure.channels"),
        ("size = [8, 8]", "size = [7, 8]", "task.parties.clinic.images.size"),
        (
            "[task.parties.lab]",
            '[task.parties.lab.images]\ncolumn = "f"\n[task.parties.lab]',
            "images",
        ),
        ("[procedure]", "[training]\nlr = 0.5\n[procedure]", "training.lr"),
        ("[procedure]", "[privacy]\nunit = 'example'\nepsilon = 1.0\n[procedure]", "privacy.unit"),
    ],
)
def test_settings_that_do_not_go_together(old: str, new: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        settings = parse_config(TOML.format(more="").replace(old, new))
        make_joint(settings, make_task(settings))


def test_a_simulation_links_trains_and_keeps_the_parts(tmp_path: Path) -> None:
    """Through linkage, server and sealed letters; the same settings give the same parts."""
    write_rows(tmp_path)
    runs = f'[federation]\nname = "parts"\nruns = "{tmp_path / "runs"}"\n'
    data = f'[data]\npath = "{tmp_path / "data"}"\n[simulation]\npartition = "sites"\n'
    (tmp_path / "data").mkdir()
    for file in [*tmp_path.glob("*.csv"), *tmp_path.glob("*.png")]:
        file.rename(tmp_path / "data" / file.name)
    settings = parse_config(runs + data + TOML.format(more=""))
    found = [analyse(settings) for _ in range(2)]
    assert found[0].published == found[1].published
    assert found[0].published[TOLD]["batches"] == 5
    for name, entry in (("clinic", "mean"), ("lab", "mean"), ("registry", "head.0.weight")):
        one, other = (
            read_tensors(each.run_directory / "model" / "hospitals" / name / "split.safetensors")
            for each in found
        )
        assert entry in one[0] and one[1]["procedure"] == "split"
        assert all((one[0][key] == other[0][key]).all() for key in one[0])
