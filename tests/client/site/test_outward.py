"""No place on a hospital's machine leaves it in a text."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import RecordDict

from wardround.client.app import failure_reply
from wardround.client.site.outward import Outward
from wardround.common.errors import DataError
from wardround.common.flower.hosting import become_client, received_message


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("/srv/Dr Mueller/north.csv: no such file", "north.csv: no such file"),
        ("/srv/Dr Mueller/north.csv:3: column 'age'", "north.csv:3: column 'age'"),
        ("/opt/kit/state/store/index.json: can't be written", "state/store/index.json: can't be"),
        ("kit/state/ledger.sqlite is missing", "state/ledger.sqlite is missing"),
        ("in '/home/anna/x.toml', (/tmp/a/b)", "in 'x.toml', (b)"),
        (r"C:\Users\anna\x.csv and ~/secret/y.csv", "x.csv and y.csv"),
        ("file:///home/anna/x.csv", "x.csv"),
        ("train/loss is 1/2 and/or 3 / 4; https://example.org/a", None),
        ("Über/größe", None),
    ],
)
def test_of_a_path_the_last_part_leaves(text: str, leaves: str | None) -> None:
    outward = Outward(Path("/srv/Dr Mueller/north.csv"), folders=[Path("/opt/kit"), Path("kit")])
    assert outward.without_places(text).startswith(leaves or text)


def test_of_a_data_folder_only_its_name_leaves(tmp_path: Path, monkeypatch) -> None:
    data = tmp_path / "scans"
    (data / "Hans Mueller").mkdir(parents=True)
    for written in (data, Path("scans")):
        monkeypatch.chdir(tmp_path)
        outward = Outward(written)
        text = f"{written}/Hans Mueller/1.png: not readable as an image (OSError)"
        assert outward.without_places(text) == "scans/...: not readable as an image (OSError)"
        assert (
            outward.without_places(f"{written}: there are no images in it")
            == "scans: there are no images in it"
        )


def test_an_error_reply_holds_no_path_and_the_own_log_does(caplog) -> None:
    become_client()
    request = received_message(RecordDict(), "query.describe", "1")
    error = DataError("/srv/private/north.csv: column 'age' is missing")
    reply = failure_reply(request, error, Outward())
    assert reply.error.reason == DataError.outside
    assert "/srv/private/north.csv" in caplog.text


@pytest.mark.parametrize(
    "file", ["Doe, Jane.dcm", "Doe (Jane).dcm", "Doe: Jane; 'x'.dcm", "a/Doe, J"]
)
def test_a_file_of_the_data_may_be_called_like_the_end_of_a_path(tmp_path: Path, file: str) -> None:
    data = tmp_path / "Dr. Who, scans"
    (data / file).parent.mkdir(parents=True)
    (data / file).touch()
    outward = Outward(data)
    text = f"{data}/{file}: no image, and {data}/{file}:3: none; see {data}"
    assert (
        outward.without_places(text)
        == f"{data.name}/...: no image, and {data.name}/...:3: none; see {data.name}"
    )
    assert outward.without_places(r"at \\server\Jane\x.csv") == "at x.csv"
