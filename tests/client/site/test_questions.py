"""A hospital counts the questions that it answers, and stops at its own number."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.site.test_last_word import plan, rules_of
from tests.provisioning import Site
from wardround.client.site.kit import Kit
from wardround.client.site.questions import Questions, asked_of, sentence
from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.errors import PolicyRefused, ProvisionError
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

ASKED = """
[procedure]
name = "statistics"
[[procedure.analyses]]
name = "{name}"
kind = "pca"
columns = ["mean radius", "mean area"]
[[procedure.analyses]]
name = "groups"
kind = "kmeans"
columns = ["mean radius", "{column}"]
"""
RULES = 'procedures = ["*"]\nmax_questions = 5\n'


def settings(name: str = "parts", column: str = "mean area") -> Config:
    return parse_config(ASKED.format(name=name, column=column))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "federation.toml"
    hospitals = '[federation]\nname = "heart"\n[server]\nhospitals = ["a", "b", "c"]\n'
    path.write_text(hospitals + ASKED.format(name="parts", column="mean area"))
    config = load_config(path)
    made = provision.provision(config, now=now_utc())
    return Site(config, made.kits[0], None)  # type: ignore[arg-type]


def test_a_question_is_what_is_asked_and_not_what_it_is_called() -> None:
    one, other = asked_of(settings()), asked_of(settings("other", "mean texture"))
    assert len(one) == 2 and one[0] == other[0] and one[1] != other[1]
    assert asked_of(Config()) == []
    assert len(asked_of(parse_config('[procedure]\nname = "describe"\n'))) == 1


def test_each_runs_questions_are_counted_once_and_up_to_the_hospitals_number(site: Site) -> None:
    rules, kit = rules_of(site, RULES), Kit.open(site.kit)
    for _ in range(2):  # a plan may be shown again
        rules.admit(plan(site, run="run-1"))
    rules.admit(plan(site, run="run-2"))
    known = Questions(kit.state)
    assert known.count() == 4 and known.repeats(asked_of(site.config)) == 2
    with pytest.raises(PolicyRefused, match="max_questions: .* 5 questions in all; 4 were"):
        rules.admit(plan(site, run="run-3"))
    assert known.count() == 4
    assert sentence(known, site.config).startswith("It asks 2 questions of the rows here, 2 of")
    assert rules.run == "run-2"


def test_a_run_of_the_same_name_that_asks_something_else_counts_too(tmp_path: Path) -> None:
    known = Questions(tmp_path)
    known.note("run", ["a", "a", "b"])
    known.note("run", ["a", "a", "b"])
    assert known.count() == 3
    known.note("run", ["a", "c"])
    assert known.answered() == {"run": ["a", "a", "b", "c"]}


def test_a_damaged_count_is_no_count_of_none(tmp_path: Path) -> None:
    known = Questions(tmp_path)
    known.note("run", ["ab"])
    (tmp_path / "questions.json").write_text("{}")
    with pytest.raises(ProvisionError, match="questions.json"):
        known.count()
