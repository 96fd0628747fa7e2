"""What a fetch makes of an archive that is broken, hostile or cut off, and of a wrong table."""

from __future__ import annotations

import gc
import os
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pydicom
import pytest
import torch
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.client.sources import studies
from tests.orthanc import certificates
from wardround.client.site.policy import load_site
from wardround.client.sources.kinds import KINDS
from wardround.client.sources.pacs import fetch, journal, syntaxes, web
from wardround.client.sources.pacs.archive import Series, Study, Take
from wardround.client.sources.pacs.reach import greeted
from wardround.client.sources.pacs.secrets import read_secret
from wardround.client.sources.pacs.settings import ArchiveTable
from wardround.client.sources.source import Asked
from wardround.common.config.load import parse_config
from wardround.common.durable.private import private_folder
from wardround.common.errors import DataError
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.read import read_images

TASK = '[task]\nname = "imaging"\nclasses = ["normal", "pneumonia"]\nsize = [8, 8, 8]\n'
FLAT = TASK.replace("[8, 8, 8]", "[8, 8]")


class Archive:
    """Gives the files of a folder; ``twist`` changes what it sends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.given = folder, 0
        self.twist: Callable[[Dataset], None] = lambda dataset: None
        self.told: int | None = None

    def greet(self) -> str:
        return "it answers"

    def studies(self, asked: Mapping[str, str], most: int) -> list[Study]:
        return [Study(studies.uid(1), studies.patient(1).lower()), Study(studies.uid(2), "MRN-2")]

    def series(self, study: str, most: int) -> list[Series]:
        number = int(study.rpartition(".")[2])
        names = {file.name.split("-")[1] for file in self.folder.glob(f"{number}-*")}
        return [Series(study, f"{study}.{name}", "CT", "AX", self.told) for name in sorted(names)]

    def objects(self, series: Series, take: Take) -> None:
        *_, number, position = series.uid.split(".")
        for file in sorted(self.folder.glob(f"{number}-{position}-*")):
            dataset = pydicom.dcmread(file)
            self.twist(dataset)
            self.given += 1
            take(dataset)

    def close(self) -> None:
        pass


class Site:
    """A hospital with such an archive."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base, self.folder = base, base / "state" / "taken-1"
        (base / "sent").mkdir()
        self.archive, self.said = Archive(base / "sent"), list[str]()
        monkeypatch.setattr(fetch, "opened", lambda *_: self.archive)

    def fetch(
        self, text: str, task: str = TASK, modalities: tuple[str, ...] = ("*",), **keys: object
    ) -> Images:
        (self.base / "wanted.csv").write_text(text)
        said = {"source": "dicomweb", "url": "https://pacs.invalid/web", "wanted": "wanted.csv"}
        table = KINDS["dicomweb"].model_validate(said | {"retries": 0} | keys)
        assert isinstance(table, ArchiveTable)
        asked = Asked(parse_config(task), self.base, "ct", self.said.append, modalities=modalities)
        fetch.ArchiveImages(table).fill(asked, private_folder(self.folder))
        return read_images(self.folder, ImagingOptions(**parse_config(task).task.options))


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power cuts."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def rows(*numbers: int) -> str:
    return "StudyInstanceUID,label\n" + "".join(f"{studies.uid(n)},normal\n" for n in numbers)


class Killed(BaseException):
    """As a kill would end it: no ``except`` tidies up."""


def test_a_kill_after_any_step_loses_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        studies.series(site.archive.folder, number, values=studies.scan(number, 1))
    whole = site.fetch(rows(1, 2), FLAT)
    steps: list[str] = []
    kill_at = -1

    def counted(name: str, work: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **named: object) -> object:
            result = work(*words, **named)
            steps.append(name)
            if len(steps) - 1 == kill_at:
                raise Killed
            return result

        return call

    where = {"take": fetch.Incoming, "end": fetch.Incoming, "moved": fetch.Fetch, "decode": fetch}
    where |= {"append_lines": journal, "write_private": journal, "write_atomically": fetch}
    for name, place in where.items():
        monkeypatch.setattr(place, name, counted(name, getattr(place, name)))
    for step in range(100):
        shutil.rmtree(site.folder.parent)
        steps.clear()
        kill_at = step
        try:
            site.fetch(rows(1, 2), FLAT)
        except Killed:
            noted, kill_at = steps.count("append_lines"), -1
            steps.clear()
            found = site.fetch(rows(1, 2), FLAT)
            assert steps.count("moved") == 2 - noted, "what was noted isn't fetched again"
            assert torch.equal(found.pixels, whole.pixels)
            held = b"".join(p.read_bytes() for p in site.folder.parent.rglob("*") if p.is_file())
            assert b"MRN-" not in held and studies.ROOT.encode() not in held
            continue
        break
    assert step == 13, "2 objects, 2 series, moves, checks and lines, what is wanted, table, mark"


def test_an_archive_that_sends_what_wasnt_asked_for_is_not_believed(site: Site) -> None:
    files = studies.series(site.archive.folder, 1)

    def of(**elements: object) -> Callable[[Dataset], None]:
        def twist(dataset: Dataset) -> None:
            if str(dataset.SOPInstanceUID).endswith(".2"):  # the second of its three objects
                for name, value in elements.items():
                    setattr(dataset, name, value)

        return twist

    def deflated(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    cases: list[tuple[Callable[[Dataset], None], dict[str, object], str]] = [
        (of(SeriesInstanceUID=studies.uid(9, 9)), {}, "the archive sent an object of another"),
        (of(PatientID="MRN-666"), {}, "its objects are of several patients"),
        (of(Rows=4), {}, "the series: its slices are of several sizes"),
        (of(ImageOrientationPatient=studies.SAGITTAL), {}, "slice 2 lies in another direction"),
        (of(BurnedInAnnotation="YES"), {}, "its pixels show who the patient is"),
        (of(PhotometricInterpretation="JANE DOE"), {}, "of several photometric interpretatio"),
        (deflated, {}, "its pixels are in a form (transfer syntax) that isn't taken"),
        (of(), {"limits": {"max_objects": 2}}, "more objects than limits.max_objects (2)"),
    ]
    for twist, keys, text in cases:
        site.archive.twist = twist
        with pytest.raises(DataError, match=r"1 of 1 rows or studies can't be used") as error:
            site.fetch(rows(1), **keys)
        assert text in site.said[-1] and site.said[-1].startswith("wanted.csv:2: left out: ")
        assert "MRN" not in site.said[-1] + str(error.value)
        assert not list(site.folder.rglob("*.dcm")), "nothing of it stays where it is loaded from"
    site.archive.twist = of(Modality="US")  # not what the archive said the series is
    with pytest.raises(DataError, match="none of 1 rows or studies was left"):
        site.fetch(rows(1), modalities=("C?",))
    assert site.said[-1].endswith("of a kind that modalities of site.toml holds back")
    site.archive.twist = lambda dataset: None
    given = site.archive.given
    with pytest.raises(DataError, match="none of 1 rows or studies was left"):
        site.fetch(rows(1), modalities=("MR",))
    assert site.archive.given == given, "it isn't asked for"
    query = [{"label": "normal", "modality": "CT"}]
    with pytest.raises(DataError, match="query 1: modalities of site.toml holds images of 'CT' b"):
        site.fetch("", modalities=("MR",), query=query, wanted=None)
    site.archive.told = len(files) + 1
    with pytest.raises(DataError):
        site.fetch(rows(1))
    assert site.said[-1].endswith("3 of 4 objects came")
    site.archive.told = len(files)
    assert len(site.fetch(rows(1))) == 1, "and what was left out is tried again"


def test_pictures_of_a_study_are_images_of_one_patient_in_the_order_of_their_numbers(
    site: Site,
) -> None:
    studies.series(site.archive.folder, 1)
    studies.series(site.archive.folder, 1, 2)
    found = site.fetch(rows(1), FLAT)
    assert len(found) == 6 and found.patients is not None and len(set(found.patients)) == 1
    # the files came in the reverse order of their numbers
    values = torch.from_numpy(studies.scan(1)[::-1].astype("float32"))
    expected = torch.stack([(one - one.min()) / (one.max() - one.min()) for one in values])
    assert torch.allclose(found.pixels[:3, 0], expected, atol=1e-6)
    site.archive.twist = lambda dataset: setattr(dataset, "NumberOfFrames", 2)
    with pytest.raises(DataError):
        site.fetch(rows(1), FLAT.replace("[8, 8]", "[9, 9]"))  # other settings: fetched anew
    assert site.said[-1].endswith("an object of many frames, where task.size has two numbers")


def test_what_an_archive_finds_must_be_what_was_asked(site: Site) -> None:
    """Some find names whatever the case, or by their beginning: another patient's images."""
    studies.series(site.archive.folder, 1)
    with pytest.raises(DataError, match="1 of 1"):
        site.fetch(f"PatientID,label\n{studies.patient(1)},normal\n")
    assert site.said[-1].endswith("the archive has no such study")
    site.archive.studies = lambda asked, most: [Study(studies.uid(1), "")]  # type: ignore[method-assign]
    with pytest.raises(DataError, match="1 of 1"):
        site.fetch("PatientID,label\nMRN-0,normal\n")
    assert site.said[-1].endswith("sent an object of another patient")


def test_all_mistakes_of_a_table_are_told_at_once_and_no_cell_is(site: Site) -> None:
    text = "StudyInstanceUID,AccessionNumber,label\n"
    text += "1.2.Doe,,normal\n,SECRET*,normal\n,,normal\n1.2.3,,tumour-of-Doe\n1.2.4,,normal\n"
    text += "1.2.4,,pneumonia\n"
    with pytest.raises(DataError) as error:
        site.fetch(text)
    said = str(error.value)
    parts = [
        "wanted.csv:2: column 'StudyInstanceUID': no UID",
        "wanted.csv:3: column 'AccessionNumber': no identifier that an archive is asked by",
        "wanted.csv:4: column 'AccessionNumber': empty; fill it in or drop the row",
        "wanted.csv:5: column 'label': a label that is none of task.classes",
        "wanted.csv:7: another row names the same with another label, patient or split",
    ]
    assert all(part in said for part in parts), said
    assert "Doe" not in said and "SECRET" not in said and site.archive.given == 0
    lacking = {
        "StudyInstanceUID\n1.2.3\n": "no column 'label'",
        "SeriesInstanceUID,label\n1.2.3,normal\n": "by which the archive knows an image",
        "StudyInstanceUID,SeriesInstanceUID,label\n,1.2.3,normal\n": "empty beside the series' UID",
    }
    for text, part in lacking.items():
        with pytest.raises(DataError, match=part):
            site.fetch(text)
    with pytest.raises(DataError, match="no column 'split'; add it"):
        site.fetch(rows(1), TASK + '[task.files]\nsplit = "split"\n')
    with pytest.raises(DataError, match="gives images, and the study's task .'tabular'. takes"):
        site.fetch(rows(1), "")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"wanted": None}, "name a table in wanted, or what to search for in query"),
        ({"url": "http://pacs/web", "token": "env:T"}, "isn't sent over plain http"),
        ({"url": "https://ward:word@pacs/web"}, "should match pattern"),
        ({"user": "ward"}, "user and password go together"),
        ({"password": "word", "user": "ward"}, "should match pattern"),
        ({"query": [{"label": "a", "modality": "CT"}]}, "not both"),
        ({"source": "dicom", "retrieve": "move"}, "goes with retrieve = 'move'"),
        ({"source": "dicom", "ca": "ca.pem"}, "has no effect without tls"),
    ],
)
def test_settings_that_cant_be_meant_are_refused(keys: dict[str, object], text: str) -> None:
    said: dict[str, object] = {"source": "dicomweb", "wanted": "wanted.csv"} | keys
    if said["source"] == "dicom":
        said |= {"host": "pacs", "port": 104, "archive_title": "PACS"}
    else:
        said = {"url": "https://pacs/web"} | said
    with pytest.raises(ValueError, match=text):
        KINDS[str(said["source"])].model_validate(said)


def test_the_documents_example_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
    lines = page.partition("## PACS")[2].partition("Then `wardround")[0].splitlines()
    path = tmp_path / "site.toml"
    path.write_text("\n".join(line[4:] for line in lines if line.startswith("    ")))
    data = load_site(path).data
    kinds = {name: (table.source, isinstance(table, ArchiveTable)) for name, table in data.items()}
    assert kinds == {"chest": ("dicomweb", True), "heads": ("dicom", True)}


def test_secrets_stand_elsewhere_and_are_only_their_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "word"
    file.write_text("abc\n")
    file.chmod(0o640)
    with pytest.raises(DataError, match="others on this machine may read this secret; run: chmod"):
        read_secret("file:word", tmp_path, "here")
    file.chmod(0o600)
    assert read_secret("file:word", tmp_path, "here") == "abc"
    monkeypatch.delenv("WORD", raising=False)
    with pytest.raises(DataError, match="the environment has no WORD"):
        read_secret("env:WORD", tmp_path, "here")
    monkeypatch.setenv("WORD", "def")
    assert read_secret("env:WORD", tmp_path, "here") == "def"


class Service(BaseHTTPRequestHandler):
    """Answers searches with nothing; beside that it misbehaves as its address says."""

    def do_GET(self) -> None:
        if "away" in self.path:
            self.send_response(302)
            self.send_header("Location", "https://elsewhere.invalid/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"[" + b" " * (20 << 20) + b"]" if "large" in self.path else b"[]"
        status = 503 if "busy" in self.path else 200
        self.send_response(status, "for patient MRN-00001")
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def finish(self) -> None:
        """A handshake that failed leaves nothing open."""
        with suppress(OSError):
            super().finish()
        self.rfile.close()


class Port(ThreadingHTTPServer):
    """Its handshakes are each connection's own thread's."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def all_closed() -> Iterator[None]:
    """No garbage is collected before the end, where a connection left open is an error."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.mark.usefixtures("all_closed")
def test_a_service_is_known_by_its_certificate_and_cant_send_elsewhere_or_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours", "others"):
        (tmp_path / name).mkdir()
        certificates(tmp_path / name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ours" / "cert.pem", tmp_path / "ours" / "key.pem")
    monkeypatch.setattr(web, "ANSWER_BYTES", 16 << 20)
    (tmp_path / "wanted.csv").write_text(rows(1))
    with Port(("127.0.0.1", 0), Service) as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def said(path: str, ca: str | None = "ours/ca.pem") -> str:
            url = f"https://127.0.0.1:{server.server_address[1]}/{path}"
            keys = {"source": "dicomweb", "url": url, "ca": ca, "wanted": "wanted.csv"}
            table = KINDS["dicomweb"].model_validate(keys)
            assert isinstance(table, ArchiveTable)
            try:
                return greeted(table, tmp_path, "[data.ct]")
            except DataError as error:
                return str(error)

        assert said("web") == "it answers searches (QIDO-RS)"
        for ca in ("others/ca.pem", None):
            assert "isn't trusted, or isn't of this address; name its authority" in said("web", ca)
        assert "sends on to another address; write that in url" in said("away")
        assert "more bytes than" in said("large")
        assert said("busy") == "[data.ct]: the service answers HTTP 503"
        server.shutdown()


def test_every_kind_of_image_has_its_place_in_an_association() -> None:
    from pynetdicom import sop_class

    uids = {str(getattr(sop_class, name)) for name in syntaxes.IMAGES}
    assert len(uids) == len(syntaxes.IMAGES) and 2 * len(uids) + 1 <= 128  # PS3.8 7.1.1.13
