"""What an audit bundle is, and whether one holds.

    bundle.json        which files there are but those of the results, signed by the server
    files.json         the results' own signed list, and all files of it: plan, settings, model with
                       its card and list, figures, report, what was asked
    federation.signed  ca.pem       who takes part, by the authority's word
    approvals.jsonl    lines of the server's audit log: which hospital accepted or refused the plan
    claims.jsonl       what each hospital's ledger claimed to have spent, round by round
    heads.jsonl        newest countersigned head of each party's audit log: both signatures

What it proves: that these files are those of the run, by whom they are signed; up to which line
each log is vouched for by two parties. What it doesn't: that a log up to there is sound (ask for
it: ``wardround audit verify LOG``), or that a hospital's claim is true.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from wardround.common.audit.lines import Countersigned, decode_line
from wardround.common.errors import AuditError, ModelRefused, ProvisionError, ResultsRefused
from wardround.common.model_folder.listed import Listed as ModelList
from wardround.common.results.package import FILES, Listed, Package, Sha256, list_digest
from wardround.common.text import one_line
from wardround.common.trust.description import Description

BUNDLE, DESCRIPTION, AUTHORITY = "bundle.json", "federation.signed", "ca.pem"
APPROVALS, CLAIMS, HEADS = "approvals.jsonl", "claims.jsonl", "heads.jsonl"
MODEL_LIST, CARD, PLAN = f"model/{FILES}", "model/card.md", "plan.json"
_MOST_FILES = 256
_MOST_TEXT = 64 << 20
_PIECE = 1 << 20
_UNREADABLE = (OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


class Bundle(Package):
    """The signed list of a bundle. ``results``: digest of the results' ``files.json``."""

    purpose: ClassVar[str] = "audit bundle of a run"
    results: Sha256


@dataclass
class Found:
    """What was found in a bundle.

    problems : what is wrong, a line for each; none where it holds
    notes : what it tells, for people
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify_bundle(path: Path, authority: bytes | None = None) -> Found:
    """Look into the archive.

    authority : the certificate that must have signed who takes part; None: the one inside, by which
        nobody is proved to be who he says

    Raises AuditError if it is no bundle at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = _Check(archive, str(path), authority).run()
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, *_UNREADABLE):
        raise AuditError("is no audit bundle that can be read", who=str(path)) from None
    # names in it are whatever somebody called them
    return Found(
        [one_line(x, 500) for x in found.problems], [one_line(x, 500) for x in found.notes]
    )


class _Check:
    def __init__(self, archive: zipfile.ZipFile, who: str, authority: bytes | None) -> None:
        self._archive, self._who, self._authority = archive, who, authority
        self._found = Found()
        infos = archive.infolist()
        self._sizes = {one.filename: one.file_size for one in infos}
        if len(infos) > _MOST_FILES or len(self._sizes) < len(infos):
            raise AuditError("has too many files, or one twice", who=who)

    def run(self) -> Found:
        found = self._found
        description = self._description()
        if description is None:
            return found
        try:
            bundle = Bundle.read(self._text(BUNDLE), description.server)
            results = Package.read(self._text(FILES), description.server)
        except ResultsRefused as error:
            found.problems.append(f"its lists: {error.what}")
            return found
        if list_digest(self._text(FILES)) != bundle.results or results.run != bundle.run:
            found.problems.append(f"{FILES}: of other results than the bundle's")
        listed = [*bundle.files, *results.files]
        found.problems += [line for one in listed for line in self._file(one)]
        known = {BUNDLE, FILES, *(one.name for one in listed)}
        found.problems += [f"{name}: nobody listed it" for name in sorted(set(self._sizes) - known)]
        if found.problems:
            return found
        found.notes.append(
            f"run '{results.run}' of '{results.network}', round {results.round}: {len(listed)} "
            f"files, signed by the server {description.server.hex()[:16]}"
        )
        self._model(description, {one.name for one in results.files})
        self._approvals()
        self._heads(description)
        return found

    def _description(self) -> Description | None:
        """Who takes part. Without it nothing else is worth a look."""
        inside = self._text(AUTHORITY)
        if self._authority is None:
            sha = hashlib.sha256(inside).hexdigest()[:16]
            self._found.notes.append(
                f"who takes part is as the authority inside says (ca.pem {sha}); with --ca yours"
            )
        try:
            return Description.read(self._text(DESCRIPTION), self._authority or inside)
        except ProvisionError as error:
            self._found.problems.append(error.what)
            return None

    def _file(self, one: Listed) -> Iterator[str]:
        if one.name not in self._sizes:
            yield f"{one.name}: missing"
            return
        digest, size = hashlib.sha256(), 0
        with self._archive.open(one.name) as file:
            while size <= one.size and (piece := file.read(_PIECE)):
                digest.update(piece)
                size += len(piece)
        if size != one.size or digest.hexdigest() != one.sha256:
            yield f"{one.name}: altered"

    def _model(self, description: Description, names: set[str]) -> None:
        """The model's own list, where there is a model: by the same server, of the same files."""
        if MODEL_LIST not in names:
            return
        data = self._text(MODEL_LIST)
        try:
            listed = ModelList.read(data, MODEL_LIST)
            listed.check(MODEL_LIST, [description.server])
        except ModelRefused as error:
            self._found.problems.append(f"{MODEL_LIST}: {error.what}")
            return
        for one in listed.files:
            inside = Listed(name=f"model/{one.name}", sha256=one.sha256, size=one.size)
            self._found.problems += list(self._file(inside))
        digest = hashlib.sha256(data).hexdigest()
        self._found.notes.append(f"model {digest[:16]}, good until {listed.expires}")
        if digest not in self._text(APPROVALS).decode("utf-8", "replace"):
            self._found.notes.append("no line of the server's audit log here names the model")

    def _approvals(self) -> None:
        accepted, refused = set[str](), set[str]()
        for raw in self._lines(APPROVALS):
            line = decode_line(raw + b"\n")
            if line is None or not line.sound:
                self._found.problems.append(f"{APPROVALS}: a line isn't one of an audit log")
                return
            if line.event == "manifest":
                name = str(line.values.get("hospital"))
                (accepted if line.values.get("accepted") else refused).add(name)
        who = ", ".join(sorted(accepted)) or "nobody"
        self._found.notes.append(f"the plan was accepted by {who}, as the server wrote down")
        if refused:
            self._found.notes.append(f"refused, once at least, by {', '.join(sorted(refused))}")

    def _heads(self, description: Description) -> None:
        keys = {"server": description.server, **description.hospitals}
        for raw in self._lines(HEADS):
            try:
                one = Countersigned.from_bytes(raw)
            except ValueError:
                self._found.problems.append(f"{HEADS}: a line is no countersigned head")
                return
            if not one.is_valid():
                self._found.problems.append(f"{HEADS}: a signature isn't of who it says")
                return
            theirs = keys.get(one.head.party) == one.public and keys.get(one.by) == one.by_public
            proof = "" if theirs else ", by a key that federation.signed hasn't (any more)"
            self._found.notes.append(
                f"log of '{one.head.party}': up to line {one.head.seq}, hash {one.head.hash[:16]}, "
                f"countersigned by '{one.by}'{proof}"
            )

    def _lines(self, name: str) -> list[bytes]:
        return [line for line in self._text(name).split(b"\n") if line]

    def _text(self, name: str) -> bytes:
        if self._sizes.get(name, _MOST_TEXT + 1) > _MOST_TEXT:
            raise AuditError(f"has no '{name}' that can be read: no audit bundle", who=self._who)
        with self._archive.open(name) as file:
            return file.read(_MOST_TEXT)


def claim_lines(rounds: list[dict[str, object]]) -> bytes:
    """``claims.jsonl`` of the lines of ``metrics.jsonl``."""
    rows = []
    for row in rounds:
        claims = row.get("privacy")
        if isinstance(claims, dict):
            rows += [{"round": row["round"], "hospital": k, **claims[k]} for k in sorted(claims)]
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
