"""Frames of the interface to studies: read as they were written, and nothing else is one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import TransportError
from wardround.common.study import frames as f
from wardround.common.study.states import STATES

IDS = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
TEXT = st.text(max_size=40)
COUNTS = st.integers(0, 2**53 - 1)
TIMES = st.floats(0, 2**33)
LINES = st.builds(
    f.Line,
    id=IDS,
    name=NAMES,
    researcher=NAMES,
    state=st.sampled_from(STATES),
    reason=TEXT,
    hospitals=st.lists(NAMES, max_size=3).map(tuple),
    waiting_for=st.lists(NAMES, max_size=3).map(tuple),
    round=COUNTS,
    rounds=COUNTS,
    submitted=TIMES,
    changed=TIMES,
    ends=TIMES,
)
EVENTS = st.builds(
    f.Event, number=COUNTS, time=TIMES, kind=TEXT, old=TEXT, new=TEXT, who=TEXT, reason=TEXT
)
DECISIONS = st.builds(f.Decision, hospital=NAMES, word=TEXT, reason=TEXT, time=TIMES)
SIGNATURES = st.text("0123456789abcdef", min_size=128, max_size=128)
KINDS: dict[type[f.Frame], st.SearchStrategy[f.Frame]] = {
    f.Submit: st.builds(f.Submit, study=TEXT, signature=SIGNATURES),
    f.Rerun: st.builds(f.Rerun, study=TEXT, signature=SIGNATURES, of=IDS),
    f.List: st.builds(f.List, states=st.lists(st.sampled_from(STATES), max_size=3).map(tuple)),
    f.Show: st.builds(f.Show, study=NAMES),
    f.Watch: st.builds(f.Watch, study=NAMES, after=COUNTS),
    f.Abort: st.builds(f.Abort, study=NAMES, reason=st.text(min_size=1, max_size=40)),
    f.Fetch: st.builds(f.Fetch, study=NAMES, name=st.text(min_size=1, max_size=40), offset=COUNTS),
    f.Describe: st.builds(f.Describe, version=COUNTS, issued=TEXT),
    f.Submitted: st.builds(f.Submitted, line=LINES, new=st.booleans()),
    f.Listed: st.builds(
        f.Listed, studies=st.lists(LINES, max_size=2).map(tuple), more=st.booleans()
    ),
    f.Shown: st.builds(
        f.Shown, line=LINES, signed=TEXT, decisions=st.lists(DECISIONS, max_size=2).map(tuple)
    ),
    f.Watched: st.builds(f.Watched, line=LINES, events=st.lists(EVENTS, max_size=2).map(tuple)),
    f.Changed: st.builds(f.Changed, line=LINES),
    f.FileHead: st.builds(f.FileHead, name=TEXT, size=COUNTS, offset=COUNTS),
    f.Described: st.builds(f.Described, description=TEXT),
}
FRAMES = st.sampled_from(list(KINDS.values())).flatmap(lambda one: one)


@settings(max_examples=40)
@given(frame=FRAMES)
def test_a_frame_is_read_as_it_was_written(frame: f.Frame) -> None:
    assert type(frame).read(frame.to_bytes()) == frame


@settings(max_examples=40)
@given(frame=FRAMES, data=st.data())
def test_an_altered_frame_is_refused_or_another_one(frame: f.Frame, data: st.DataObject) -> None:
    """A key more or less, another type: never read as something, never anything but a sentence."""
    values: dict[str, Any] = json.loads(frame.to_bytes())
    key = data.draw(st.sampled_from(sorted(values)))
    change = data.draw(st.sampled_from(["more", "type", "drop"]))
    if change == "more":
        values["role"] = "coordinator"
    elif change == "type":
        values[key] = {"a": 1}
    elif type(frame).model_fields[key].is_required():
        del values[key]
    else:
        return
    with pytest.raises(TransportError) as caught:
        type(frame).read(json.dumps(values).encode())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@settings(max_examples=40)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_garbage_is_no_frame(data: bytes) -> None:
    for kind in (f.Submit, f.Watch, f.Listed, f.FileHead):
        with pytest.raises(TransportError):
            kind.read(data)


def test_all_frames_are_drawn() -> None:
    known = {one for one in vars(f).values() if isinstance(one, type) and issubclass(one, f.Frame)}
    assert known - {f.Frame, f.Call, f.Line, f.Event, f.Decision} == set(KINDS)
