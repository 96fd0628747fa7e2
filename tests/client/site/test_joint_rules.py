"""What a hospital allows of linkages and of models over several parties' columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wardround.client.links.helped import Helped
from wardround.client.site.joint_rules import check_helped, check_joint, columns_of
from wardround.client.site.policy import SitePolicy, load_site
from wardround.common.config.load import Config
from wardround.common.errors import PolicyRefused
from wardround.common.settings import ProcedureTable, TaskTable

PARTIES = {
    "north": {"numeric": ["age", "bmi"], "categorical": {"sex": ["f", "m"]}},
    "registry": {"time": "days", "event": "died"},
}


def asked(name: str, **options: Any) -> Config:
    task = TaskTable(name="linked", identifiers={"nhs_number": "nhs"}, parties=PARTIES)
    procedure = ProcedureTable(name=name, **options)
    return Config().model_copy(update={"task": task, "procedure": procedure})


@pytest.fixture
def site(tmp_path: Path) -> Callable[[str], SitePolicy]:
    def make(text: str) -> SitePolicy:
        (tmp_path / "site.toml").write_text(text)
        return load_site(tmp_path / "site.toml")

    return make


def test_a_partys_columns_are_its_own_in_every_role() -> None:
    config = asked("linkage")
    assert columns_of(config, "north") == ["age", "bmi", "sex"]
    assert columns_of(config, "registry") == ["days", "died"]
    assert columns_of(config, "nobody") == []


@pytest.mark.parametrize(
    ("rules", "here", "words"),
    [
        ('linkage_columns = ["birth_*"]', "north", "linkage_columns: .*'nhs_number' to link"),
        ('columns = ["age", "bmi", "sex"]', "north", "columns: .*'nhs_number'"),
        ('vertical_columns = ["age", "s*"]', "north", "vertical_columns: .*'bmi' to compute"),
        ('columns = ["nhs_number", "age", "sex"]', "north", "columns: .*'bmi'"),
        ('vertical_columns = ["days"]', "registry", "vertical_columns: .*'died'"),
        ("smallest_link = 100", "north", "smallest_link: .*100 persons.*would link 20"),
    ],
)
def test_what_isnt_allowed_is_refused_by_its_key(
    site: Callable[[str], SitePolicy], rules: str, here: str, words: str
) -> None:
    with pytest.raises(PolicyRefused, match=f"site.toml:1: {words}"):
        check_joint(site(rules), asked("linkage"), here)


@pytest.mark.parametrize(
    ("rules", "procedure", "here"),
    [
        ('vertical_columns = ["days", "died"]', "linkage", "registry"),  # others' aren't asked
        ('columns = ["nhs_number", "age", "bmi", "sex"]', "linkage", "north"),
        ("smallest_link = 21", "describe", "north"),
        ("smallest_link = 20", "linkage", "north"),
    ],
)
def test_what_is_allowed_passes(
    site: Callable[[str], SitePolicy], rules: str, procedure: str, here: str
) -> None:
    check_joint(site(rules), asked(procedure), here)


def test_a_plan_is_refused_once_a_party_was_helped_so_often(
    site: Callable[[str], SitePolicy], tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    Helped(tmp_path / "links").note("ab", "run-1", 1, {"lab": 500})
    one, config = site("max_linkages = 1"), asked("linkage")
    check_helped(one, config, tmp_path, "run-1", {"lab"})  # its own plan, shown again
    check_helped(one, config, tmp_path, "run-2", {"registry"})
    check_helped(one, asked("describe"), tmp_path, "run-2", {"lab"})
    with pytest.raises(PolicyRefused, match="max_linkages: .* 1 linkages with 'lab', .* were 1"):
        check_helped(one, config, tmp_path, "run-2", {"lab", "registry"})
    with pytest.raises(PolicyRefused, match="max_linked_ids: .* 500 identifiers of 'lab'"):
        check_helped(site("max_linked_ids = 500"), config, tmp_path, "run-2", {"lab"})
