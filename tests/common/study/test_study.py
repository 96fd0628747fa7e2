"""A study says one thing, in one form, under two signatures; anything else is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from wardround.client.site.study_rules import StudyRules
from wardround.client.sources.kinds import KINDS
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ConfigError, StudyRefused
from wardround.common.secagg.content import descriptor
from wardround.common.settings.cohort import CohortIndex, CohortVariable
from wardround.common.settings.needs import NeedsTable
from wardround.common.settings.network import NetworkTable, StudyTable, end_of
from wardround.common.study.states import OVER, STATES, may_follow
from wardround.common.study.study import SignedStudy, Study, Submission
from wardround.common.trust.description import shared_toml
from wardround.common.trust.identity import Identity

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ANNA, SERVER, OTHER = Identity.generate(), Identity.generate(), Identity.generate()
NETWORK = """
[federation]
name = "trusts"
[server]
hospitals = ["north", "south", "west"]
lease_s = 30
[network]
"""
STUDY = """
[study]
name = "sepsis"
purpose = "Does lactate predict mortality?"
hospitals = ["south", "north"]
ends = 2027-03-01
[federation]
rounds = 7
[task.columns]
target = "died"
numeric = ["lactate"]
"""


@dataclass
class Members:
    federation: str = "trusts"
    server: bytes = SERVER.public
    hospitals: dict[str, bytes] = field(
        default_factory=lambda: {name: name.encode() for name in ("north", "south", "west")}
    )
    researchers: dict[str, bytes] = field(default_factory=lambda: {"anna": ANNA.public})
    config_toml: str = field(default_factory=lambda: shared_toml(parse_config(NETWORK)))


def make(text: str = STUDY, **more: object) -> Study:
    return Study.of(parse_config(text), Members(), "anna", now=NOW, **more)


def test_what_hospitals_compute_with_is_the_researchers_file_under_the_networks_name() -> None:
    config = make().config(Members())
    assert config.federation.rounds == 7 and config.federation.name == "trusts"
    assert config.server.lease_s == 30
    columns = config.task.options["columns"]
    assert columns["target"] == "died" and columns["numeric"] == ["lactate"]
    # both ends work the digest of the settings out from the same text
    assert descriptor(config) == descriptor(make().config(Members()))


def test_equal_questions_are_one_study_and_any_other_word_is_another() -> None:
    one = make()
    assert one.id == make(STUDY + "\n[evaluation]\nevery = 1\n").id  # as it is by default
    others = [
        make(STUDY.replace("7", "8")),
        make(STUDY.replace("lactate predict", "lactate cause")),
        make(STUDY.replace("2027-03-01", "2027-03-02")),
        make(STUDY.replace('["south", "north"]', '["south", "west"]')),
        make(repeat=1),
    ]
    assert len({one.id, *(other.id for other in others)}) == 6
    assert one.run == f"sepsis-{one.id[:16]}" and one.hospitals == ("north", "south")


def test_a_date_means_its_end_and_one_left_out_ninety_days() -> None:
    assert make().ends == "2027-03-02T00:00:00+00:00"
    assert end_of("2027-03-01T10:00:00+02:00") == datetime(2027, 3, 1, 8, tzinfo=UTC)
    later = make(STUDY.replace("ends = 2027-03-01\n", ""))
    assert later.end - NOW < timedelta(days=90) <= later.end - NOW + timedelta(days=1)
    assert make(STUDY.replace('hospitals = ["south", "north"]\n', "")).hospitals == (
        "north",
        "south",
        "west",
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"south", "north"', '"south", "east"', "'east' is no hospital of this network"),
        ("2027-03-01", "2026-11-01", "it ended"),
        ("2027-03-01", "2126-11-01", "days away"),
        ("rounds = 7", "rounds = 7\nmin_clients = 3", "2 hospitals are asked"),
        ("[study]\n", "[server]\n", "no \\[study\\]"),
    ],
)
def test_what_cant_be_asked_is_refused_by_its_key(old: str, new: str, said: str) -> None:
    text = STUDY.replace(old, new)
    if "[server]" in text:
        text = text.split("[federation]")[1].join(["[federation]", ""])
    with pytest.raises(StudyRefused, match=said):
        make(text)


@pytest.mark.parametrize("ends", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_that_is_in_no_year_is_none(ends: str) -> None:
    """Also where nobody has signed it: a hospital's process reads what a server sends."""
    body = json.dumps(make().model_dump(mode="json") | {"ends": ends}, separators=(",", ":"))
    with pytest.raises(StudyRefused, match="can't be read"):
        Study.from_body(body.encode())
    with pytest.raises(ConfigError, match="is no date"):
        make(STUDY.replace("2027-03-01", f'"{ends}"'))


def test_a_networks_file_has_no_settings_of_a_study() -> None:
    assert shared_toml(parse_config(NETWORK)).count("[") == 3
    with pytest.raises(ConfigError, match=r"\[training\] beside \[network\]"):
        parse_config(NETWORK + "[training]\nlr = 0.1\n")
    with pytest.raises(ConfigError, match="federation.rounds beside"):
        parse_config(NETWORK.replace('"trusts"', '"trusts"\nrounds = 3'))
    with pytest.raises(ConfigError, match="no date"):
        parse_config(STUDY.replace("2027-03-01", '"soon"'))


def test_it_travels_under_two_signatures() -> None:
    submission = make().signed(ANNA)
    assert Submission.read(submission.to_bytes(), Members()) == submission
    signed = submission.accepted(SERVER, NOW)
    assert SignedStudy.read(signed.to_bytes(), Members()) == signed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"researchers": {}}, "no researcher"),
        ({"researchers": {"anna": OTHER.public}}, "isn't signed by 'anna'"),
        ({"server": OTHER.public}, "isn't signed by the server"),
    ],
)
def test_who_isnt_who_they_say_is_refused(change: dict[str, object], said: str) -> None:
    data = make().signed(ANNA).accepted(SERVER, NOW).to_bytes()
    with pytest.raises(StudyRefused, match=said):
        SignedStudy.read(data, Members(**change))  # type: ignore[arg-type]


_SIGNED = make().signed(ANNA).accepted(SERVER, NOW).to_bytes()


@given(st.integers(0, len(_SIGNED) - 1), st.integers(1, 255))
def test_no_byte_of_it_can_be_another(place: int, flip: int) -> None:
    data = bytearray(_SIGNED)
    data[place] ^= flip
    with pytest.raises(StudyRefused):
        SignedStudy.read(bytes(data), Members())


@pytest.mark.parametrize(
    "settings",
    [
        "[server]\nmax_message_mb = 9\n",
        "[network]\n",
        "[federation]\nrounds = 7\n",  # not the whole form
        "rounds = [",
        "[simulation]\nclients = 3\n",
    ],
)
def test_settings_have_one_form(settings: str) -> None:
    study = make().model_copy(update={"settings": settings})
    with pytest.raises(StudyRefused, match="its settings"):
        study.config(Members())


def test_a_study_that_is_over_stays_so() -> None:
    for state in STATES:
        following = {new for new in STATES if may_follow(state, new)}
        assert state not in following
        assert bool(following) is (state not in OVER)
        if state not in OVER:
            assert {"aborted", "expired"} <= following
    assert Config().study is None


def test_every_field_and_key_has_a_row_in_the_threat_model() -> None:
    """Whatever shapes what leaves a hospital is in what it accepted, or is worked out by it."""
    text = (Path(__file__).parents[3] / "docs" / "threat_model.md").read_text("utf-8")
    rows = " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    keys = {word.rpartition(".")[2] for word in re.findall(r"[\w.]+", rows)}
    fields = set(Study.model_fields) - {"format"}
    models: list[type[BaseModel]] = [StudyTable, NetworkTable, NeedsTable, StudyRules]
    models += [CohortIndex, CohortVariable, *KINDS.values()]
    tables = [set(one.model_fields) for one in models]
    missing = {name for name in fields.union(*tables) if name not in keys}
    assert missing == set()
