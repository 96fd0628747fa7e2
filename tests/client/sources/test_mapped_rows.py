"""``map`` and ``left_out_share`` of ``[data.NAME]``, from site.toml to what a task loads."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wardround.client.site.policy import load_site
from wardround.client.sources.kept import KeptData, SourceFailed
from wardround.client.sources.mapping import MappedRows
from wardround.client.sources.settings import RowsTable
from wardround.client.sources.source import Asked
from wardround.common.config.load import Config
from wardround.common.errors import ConfigError

WARD = """
[data.ward]
path = "ward.csv"
left_out_share = {share}
[data.ward.map]
rename = {{ creatinine = "Krea", sex = "Geschlecht" }}
units = {{ creatinine = {{ from = "mg/dL", to = "umol/L", factor = 88.42 }} }}
derive = {{ ratio = "creatinine / weight" }}
[data.ward.map.codes.sex]
female = ["w", "F"]
male = ["m"]
"""
ROWS = "Krea,Geschlecht,weight\n" + "1.0,w,80\n0.9,m,90\n" * 4 + "Smith,F,0\n1.2,Jane Doe,70\n"


def kept(tmp_path: Path, site: str) -> KeptData:
    (tmp_path / "site.toml").write_text(site)
    (tmp_path / "ward.csv").write_text(ROWS)
    data = KeptData(tmp_path / "state")
    data.take_up(load_site(tmp_path / "site.toml").located("ward"), Config())
    return data


def test_rows_come_as_the_study_has_them_and_bad_ones_are_listed_at_home(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "wardround"):
        data = kept(tmp_path, WARD.format(share=0.2))
    assert data.path is not None
    found = pq.read_table(data.path)
    assert found.column_names == ["creatinine", "sex", "weight", "ratio"]
    assert found["creatinine"].to_pylist()[:2] == [88.42, 0.9 * 88.42]
    assert found["sex"].to_pylist()[:2] == ["female", "male"] and found.num_rows == 8
    assert [str(one).partition(":")[0] for one in data.left_out] == ["2 rows were left out"]
    listed = [line.getMessage() for line in caplog.records if "left out:" in line.getMessage()]
    assert ["ward.csv:10: column 'Krea'" in listed[0], "ward.csv:11: column" in listed[1]] == [
        True,
        True,
    ]
    assert "Smith" not in caplog.text and "Jane" not in caplog.text


def test_more_than_the_share_refuses_all_and_says_so_at_home_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SourceFailed) as error:
        kept(tmp_path, WARD.format(share=0.1))
    assert "ward.csv" not in str(error.value)
    assert "2 of 10 rows can't be read, and left_out_share is 10 %" in caplog.text
    assert "ward.csv:11" in caplog.text and "Smith" not in caplog.text


def test_the_example_of_the_documents_maps_a_row(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
    part = page.partition("## Mapping")[2].partition("\n## ")[0]
    site = "\n".join(line for line in part.split("\n") if line.startswith("    "))
    (tmp_path / "site.toml").write_text(site)
    days = {"admission": pa.array([date(2024, 1, 1)]), "discharge": pa.array([date(2024, 1, 4)])}
    cells = {"PatNr": ["1"], "Krea [mg/dL]": [2.0], "Geschlecht": ["w"], "Temp": [102.2]}
    ward = pa.table({**cells, "weight": [80.0], "height": [200.0], **days})
    source = load_site(tmp_path / "site.toml").data["cardio"]
    assert isinstance(source, RowsTable)
    found = MappedRows(source.map, asked(tmp_path), source.left_out_share)(ward).to_pylist()
    expected = {"sex": "female", "stay_days": 3.0, "fever": True, "bmi": 20.0, "renal": "impaired"}
    assert {name: found[0][name] for name in expected} == expected
    assert found[0]["creatinine"] == pytest.approx(176.8, rel=1e-4)


def asked(folder: Path) -> Asked:
    return Asked(Config(), folder, "cardio", print)


def test_a_mapping_that_cant_be_is_refused_with_its_line(tmp_path: Path) -> None:
    site = WARD.format(share=0.0).replace('"umol/L", factor = 88.42', '"mmol/L"')
    with pytest.raises(ConfigError) as error:
        kept(tmp_path, site)
    line = site.split("\n").index(next(x for x in site.split("\n") if "units" in x)) + 1
    assert f"site.toml:{line}: data.ward.map.units.creatinine.from: " in str(error.value)
    assert "add factor" in str(error.value)
