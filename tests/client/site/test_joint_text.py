"""What who approves a joint procedure reads of this hospital's own links and counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.client.site.test_joint_rules import asked
from wardround.client.links.helped import Helped
from wardround.client.links.kept import Record
from wardround.client.links.store import LinkStore
from wardround.client.site.joint_text import learned, of_this_kit
from wardround.common.config.load import Config, parse_config
from wardround.common.privacy.losses import gaussian_epsilon


class _Of:
    """A study that uses a link."""

    def __init__(self, link: str) -> None:
        self.procedure, self.task = self, self
        self.settings, self.options = self, {}
        self.link = link


def said(config: Config, state: Path, study: str = "who-dies") -> str:
    return " ".join(of_this_kit(config, state, "north", study))


def test_how_often_it_has_helped_each_other_party_is_said(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    Helped(tmp_path / "links").note("ab", "run-1", 1, {"registry": 500})
    assert "helped registry in 1 linkages, 500 identifiers." in said(asked("linkage"), tmp_path)
    assert said(asked("describe"), tmp_path) == ""


def test_which_link_is_used_is_said_and_what_lacks(tmp_path: Path) -> None:
    using: Config = _Of("same")  # type: ignore[assignment]
    assert "has no link 'same'" in said(using, tmp_path)
    about = Record("same", made="2026-11-30", parties=["lab", "north"], used_by=["who-*"])
    rows = {"rows": np.arange(2, dtype=np.int64), "order": np.zeros(32, np.uint8)}
    LinkStore(tmp_path / "links", lambda: about).keep(bytes(32), rows, [b"a", b"b"])
    assert "2 persons with lab, north, made 2026-11-30, digest" in said(using, tmp_path)
    assert "is not for a study of this name" in said(using, tmp_path, "other")


VERTICAL = """
[federation]
name = "who-dies"
[task]
name = "linked"
[task.identifiers]
nhs_number = "nhs"
[task.parties.lab]
numeric = ["crp"]
[task.parties.north]
numeric = ["age"]
{outcome}
[task.parties.third]
[procedure]
name = "vertical"
model = "{model}"
link = "same"
dealer = "third"
intervals = 12
iterations = 9
"""


@pytest.mark.parametrize(
    ("model", "outcome", "who", "what"),
    [
        ("linear", 'outcome = "y"', {}, ["sums of products"]),
        ("logistic", 'outcome = "y"', {}, ["at most 9 points", "sums of products"]),
        ("poisson", 'outcome = "y"', {"the outcome's holder learns": "north"}, ["variances"]),
        (
            "cox",
            'time = "t"\nevent = "e"',
            {"the outcome's holder learns": "north", "one other party learns": "lab"},
            ["at most 12 intervals", "at most 9 points", "the first and the last"],
        ),
    ],
)
def test_what_a_regression_opens_and_to_whom_is_said(
    model: str, outcome: str, who: dict[str, str], what: list[str]
) -> None:
    lines = dict(learned(parse_config(VERTICAL.format(model=model, outcome=outcome))))
    assert lines["the parties learn"].startswith("lab, north: how many persons")
    assert all(part in lines["the parties learn"] for part in what)
    assert lines["the dealer learns"].startswith("third: ")
    others = {
        key: text for key, text in lines.items() if key.endswith("holder learns") or "other" in key
    }
    assert {key: text.split(":")[0] for key, text in others.items()} == who


SPLIT = """
[task]
name = "linked"
identifiers = { id = "exact" }
parties = { lab = { numeric = ["crp"] }, north = { outcome = "died" } }
[procedure]
name = "split"
link = "same"
batches = 20
batch_size = 8
held_out = 10
"""


def test_what_a_split_network_tells_is_said_and_what_its_noise_costs(tmp_path: Path) -> None:
    """20 batches of 8 of the 64 persons that aren't held out: each is in 3 at most."""
    bare, noised = SPLIT, SPLIT + "clip = 1.0\nnoise_multiplier = 4.0\n"
    ((_, line),) = learned(parse_config(bare))
    assert "can read every outcome" in line
    ((_, line),) = learned(parse_config(noised))
    assert "as far as its noise lets one" in line
    about = Record("same", made="2026-11-30", parties=["lab", "north"], used_by=["who-*"])
    rows = {"rows": np.arange(74, dtype=np.int64), "order": np.zeros(32, np.uint8)}
    keys = [str(number).encode() for number in range(74)]
    LinkStore(tmp_path / "links", lambda: about).keep(bytes(32), rows, keys)
    assert "epsilon" not in said(parse_config(bare), tmp_path)
    found = said(parse_config(noised), tmp_path)
    cost = f"{gaussian_epsilon(6**0.5 / 4, 1e-5):.3g}"
    assert "in at most 3 batches: epsilon of this hospital's columns of one person is at" in found
    assert f"most {cost} at delta 1e-05" in found
