"""Every key of ``site.toml``: at its ends and beyond them, and as a kit's file shows it."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path

import pytest

from wardround.client.site.policy import SitePolicy, load_site
from wardround.common.errors import ConfigError
from wardround.common.trust.credentials import site_text
from wardround.simulations.search.values import toml_text

BEYOND = [
    -1,
    0,
    2**31,
    2**63,
    -1.0,
    1e308,
    math.nan,
    math.inf,
    True,
    "",
    "x",
    "a\x00b",
    [],
    [0],
    {},
]


@pytest.mark.parametrize("key", SitePolicy.model_fields)
def test_what_no_key_can_be_is_refused_by_its_name(key: str, tmp_path: Path) -> None:
    path, refused = tmp_path / "site.toml", 0
    for value in BEYOND:
        path.write_text(f"{key} = {toml_text(value)}\n")
        try:
            load_site(path)
        except ConfigError as error:
            refused += 1
            assert f"{key}" in str(error) and "\n" not in str(error)
    assert refused >= 9


def test_the_file_of_a_kit_shows_every_key_with_its_default() -> None:
    text, fields = site_text("abc").decode(), SitePolicy.model_fields
    shown = re.findall(r"^(?:# )?(\w+) = (.+?)\s+# (example)?", text, re.M)
    assert {key for key, _, _ in shown} | {"task_files", "data", "studies"} == set(fields)
    for key, value, example in shown:
        if not example and key != "federations":
            assert tomllib.loads(f"x = {value}")["x"] == fields[key].default, key
