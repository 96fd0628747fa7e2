"""Every field that a server sends says who decides it, and what the hospital checks where."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re

import pytest
from flwr.app import ConfigRecord, RecordDict

from docs import sent
from tests.protocol.golden import Golden
from wardround.common.decided import Decided
from wardround.common.manifest import sent as of_manifest
from wardround.common.manifest.manifest import Manifest
from wardround.common.protocol.leaf import ANY
from wardround.common.protocol.message import REPLY, REQUEST, Came, Value, whole
from wardround.common.secagg import messages as wire
from wardround.common.secagg import sent as of_secagg
from wardround.common.transport import frames
from wardround.common.transport import sent as of_frames

OF_HOSPITALS = {wire.Bundle, wire.Accepted, wire.Upload, wire.Shares, wire.Dealt, wire.Held}
OF_HOSPITALS |= {frames.Again, frames.Hello}
"""What a server never sends, nor hands on from another hospital."""
SENT = [one for name in sent.TABLES for one in sent.TABLES[name]()]


def declared() -> set[tuple[str, str]]:
    """(record, key) of requests; '*' where any key may stand."""
    places = (one.field.partition("/") for one in sent.requests())
    return {(record, key) for record, _, key in places}


def test_every_value_that_a_server_sends_is_declared() -> None:
    """In all federations of the golden messages, each record and key by its name: '*' is for what
    nobody of ours sends."""
    golden, known, seen = Golden.read(), declared(), set()
    own = {("config", ANY), (ANY, ANY)}
    for name in golden.names:
        for message in golden.messages(name):
            if message.direction != ">":
                continue
            for line in message.lines:
                if found := re.match(r"([\w-]+)/(.+?) ", line):
                    record, key = found[1], found[2]
                    assert {(record, key), (record, ANY)} & (known - own), (name, line)
                    seen.add((record, key if (record, key) in known else ANY))
    # what a hospital's process answers, and not its app, isn't in golden messages: the in-process
    # grid has none of it
    of_process = {"query.manifest", sent.REQUESTS["results"]}
    places = (x.field.partition("/") for x in sent.requests() if x.message in of_process)
    assert seen == known - own - {(record, key.replace("*", ANY)) for record, _, key in places}


def test_a_value_that_nobody_declared_cant_be_read_from_a_request() -> None:
    value, content = Value("config", "new", whole()), RecordDict({"config": ConfigRecord()})
    content["config"]["new"] = 3
    assert Came(content, REPLY).take(value) == 3
    with pytest.raises(TypeError, match="'new' is read from a request, and nobody says who"):
        Came(content, REQUEST).take(value)


def test_requests_name_declared_values_only() -> None:
    """Those that they read past ``Came``, too: in the source of each class of a request."""
    seen = 0
    for name in sent.REQUESTS:
        module = importlib.import_module(f"wardround.common.protocol.{name}")
        for kind in ast.parse(inspect.getsource(module)).body:
            if isinstance(kind, ast.ClassDef) and not kind.name.endswith("Reply"):
                for node in ast.walk(kind):
                    one = getattr(module, node.id, None) if isinstance(node, ast.Name) else None
                    if isinstance(one, Value):
                        assert one.decided is not None, f"{name}.{kind.name}: {node.id}"
                        seen += 1
    assert seen > 20


@pytest.mark.parametrize("kind", [*wire.Message.__subclasses__(), *frames.Frame.__subclasses__()])
def test_every_field_of_a_message_or_frame_is_declared(kind: type) -> None:
    found = {**of_secagg.SENT, **of_frames.SENT}.get(kind)
    if kind in OF_HOSPITALS:
        assert found is None
        return
    pydantic = getattr(kind, "model_fields", None)
    fields = set(pydantic) if pydantic is not None else {x.name for x in dataclasses.fields(kind)}
    assert found is not None and set(found) == fields


def test_every_field_of_a_chunk_and_of_the_manifest_is_declared() -> None:
    assert set(of_frames.SENT[frames.Chunk]) == set(frames.Chunk.__annotations__)
    assert set(of_manifest.SENT) == set(Manifest.model_fields)


@pytest.mark.parametrize("one", SENT, ids=lambda one: f"{one.message} {one.field}")
def test_what_checks_a_field_is_there(one: sent.Sent) -> None:
    decided: Decided = one.decided
    if not decided.by:
        # then it says so, in the first word or where it says what is missing
        assert decided.check.startswith("nothing") or decided.is_open
        return
    parts, module = decided.by.split("."), None
    for cut in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(f"wardround.{'.'.join(parts[:cut])}")
            break
        except ModuleNotFoundError:
            continue
    found = module
    for part in parts[cut:]:
        found = getattr(found, part)
    assert callable(found), decided.by
