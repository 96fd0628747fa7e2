"""Logs: one line each whatever is in it, no exception's text, others' chatter kept out."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import PolicyRefused
from wardround.common.process.logs import log_event, setup_logging

KEYS = st.text(max_size=10)
LOGGER = logging.getLogger("wardround.test")
CELL = "patient 4711"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    names = ("wardround", "flwr", "uvicorn", "uvicorn.error", "uvicorn.access", "grpc")
    loggers, root = [logging.getLogger(name) for name in names], logging.getLogger()
    before = [(one.level, list(one.handlers), one.propagate) for one in loggers]
    level = root.level
    yield
    for one, (old, handlers, propagate) in zip(loggers, before, strict=True):
        one.setLevel(old)
        one.handlers[:], one.propagate = handlers, propagate
    root.handlers[:] = [one for one in root.handlers if "wardround" not in type(one).__module__]
    root.setLevel(level)
    logging.captureWarnings(False)


def set_up_alone(kind: Literal["text", "json"], stream: io.StringIO) -> None:
    """Without pytest's own handler, which raises for a wrong number of arguments."""
    logging.getLogger().handlers[:] = []
    setup_logging(kind, "INFO", stream)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rows(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(text: str = CELL) -> None:
    raise ValueError(f"could not convert string to float: {text!r}")


def test_text_is_time_level_and_message() -> None:
    stream = io.StringIO()
    setup_logging("text", "INFO", stream)
    LOGGER.info("round %d begins", 3)
    log_event(LOGGER, "connected", peer="north", attempts=2, address=None)
    first, second = stream.getvalue().splitlines()
    time, rest = first.split(" ", 1)
    assert rest == "INFO    round 3 begins" and time.endswith("Z") and len(time) == 24
    assert second.endswith("INFO    connected (peer=north, attempts=2, address=null)")


def test_json_is_one_object_with_the_fields_beside_the_message() -> None:
    stream = io.StringIO()
    setup_logging("json", "INFO", stream)
    log_event(LOGGER, "sent", kind="train", round=1, epsilon=float("nan"), names=["a", "b"])
    (row,) = rows(stream)
    assert row.pop("time").endswith("Z")
    assert row == {
        "level": "INFO", "logger": "wardround.test", "message": "sent", "kind": "train",
        "round": 1, "epsilon": None, "names": ["a", "b"],
    }  # fmt: skip


@settings(deadline=None)
@given(
    st.text(max_size=30),
    st.dictionaries(
        st.text(max_size=10).filter(lambda key: key not in ("logger", "event", "level")),
        st.recursive(
            st.none() | st.floats() | st.text(max_size=10) | st.binary(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
            ),
            max_leaves=4,
        ),
        max_size=4,
    ),
    st.sampled_from(["text", "json"]),
)
def test_whatever_is_logged_is_one_printable_line(message, fields, kind) -> None:
    stream = io.StringIO()
    set_up_alone(kind, stream)
    log_event(LOGGER, message, **fields)
    LOGGER.warning(message, message, stacklevel=1)
    text = stream.getvalue()
    assert text.endswith("\n") and text.count("\n") == 2
    assert text.replace("\n", "").isprintable()
    if kind == "json":
        first, second = rows(stream)
        assert first["level"] == "INFO" and first["logger"] == "wardround.test"
        assert {"time", "level", "logger", "message"} == second.keys()


def test_a_field_can_not_replace_the_record_s_own() -> None:
    stream = io.StringIO()
    setup_logging("json", "INFO", stream)
    log_event(LOGGER, "x", **{"time": "never", "message": "forged", "a b\n": 1})
    (row,) = rows(stream)
    assert row["message"] == "x" and row["time"] != "never"
    assert (row["message_"], row["time_"], row["a_b_"]) == ("forged", "never", 1)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_an_exception_shows_its_type_and_place_and_no_text(kind) -> None:
    stream = io.StringIO()
    setup_logging(kind, "INFO", stream)
    try:
        fail()
    except ValueError as error:
        LOGGER.exception("training failed")
        LOGGER.error("training failed: %s", error)
        LOGGER.error("training failed", exc_info=error)
        log_event(LOGGER, "failed", level=logging.ERROR, cause=error, row=object(), raw=b"4711")
    text = stream.getvalue()
    assert CELL not in text and "4711" not in text and str(Path(__file__).parent) not in text
    assert text.count("ValueError") == 4 and text.count("process/test_logs.py:") == 2


def test_debug_shows_the_text_and_our_own_errors_always_have_theirs() -> None:
    stream = io.StringIO()
    setup_logging("json", "DEBUG", stream)
    try:
        fail("a\nb")
    except ValueError:
        LOGGER.exception("training failed")
    assert rows(stream)[0]["error_text"] == "could not convert string to float: 'a\\nb'"
    setup_logging("json", "INFO", stream)
    LOGGER.error("stopped: %s", PolicyRefused("site.toml:3: max_rounds is 10"))
    assert rows(stream)[1]["message"] == "stopped: site.toml:3: max_rounds is 10"


def test_a_wrong_number_of_arguments_is_still_a_line() -> None:
    stream = io.StringIO()
    set_up_alone("json", stream)
    LOGGER.info("%d and %d", 1)
    assert rows(stream)[0]["message"] == "%d and %d"


def test_not_even_a_level_s_name_breaks_a_line() -> None:
    stream = io.StringIO()
    setup_logging("text", "INFO", stream)
    logging.addLevelName(25, "A\n\x1bB")
    LOGGER.log(25, "message")
    assert stream.getvalue().endswith("A  B    message\n") and stream.getvalue().count("\n") == 1


def test_others_are_quiet_and_ours_follow_the_level() -> None:
    stream = io.StringIO()
    for name in ("flwr", "uvicorn.access"):
        logging.getLogger(name).addHandler(logging.StreamHandler(stream))
        logging.getLogger(name).setLevel(logging.DEBUG)
    setup_logging("json", "debug", stream)
    for name in ("flwr", "uvicorn.access", "grpc", "asyncio", "some.library"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("from %s", name)
    LOGGER.debug("ours")
    assert [row["message"] for row in rows(stream)] == [
        "from flwr", "from uvicorn.access", "from grpc", "from asyncio", "from some.library",
        "ours",
    ]  # fmt: skip
    setup_logging("json", logging.ERROR, stream)
    LOGGER.warning("below the level")
    with pytest.raises(ValueError, match="'loud' is not a level"):
        setup_logging("json", "loud", stream)
    assert len(rows(stream)) == 6


def test_set_up_again_it_does_not_write_twice_and_warnings_are_records() -> None:
    stream = io.StringIO()
    for _ in range(3):
        setup_logging("json", "INFO", stream)
    LOGGER.info("once")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("an odd\nthing", UserWarning, stacklevel=1)
    once, warned = rows(stream)
    assert once["message"] == "once" and warned["logger"] == "py.warnings"


def test_colours_are_for_terminals_only(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        setup_logging("text", "INFO", stream)
        LOGGER.error("[red]no\x1b[2Jmarkup[/red] " + "x" * 300)
        text = stream.getvalue()
        assert ("\x1b[1;31m" in text) == coloured and "\x1b[2J" not in text
        assert "[red]no [2Jmarkup[/red]" in text and text.count("\n") == 1


def test_a_stream_that_knows_no_umlaut_or_is_closed_loses_no_round() -> None:
    raw = io.BytesIO()
    setup_logging("text", "INFO", io.TextIOWrapper(raw, "ascii", write_through=True))
    LOGGER.info("Zürich")
    assert b"Z\\xfcrich" in raw.getvalue()
    closed = io.StringIO()
    setup_logging("json", "INFO", closed)
    closed.close()
    LOGGER.info("into nothing")


def test_flower_brings_no_handler_back() -> None:
    code = (
        "import logging, wardround.common.process.logs as logs\n"
        "logs.setup_logging('json', 'INFO')\n"
        "import flwr.server, flwr.client, flwr.serverapp.strategy\n"
        "logging.getLogger('flwr').info('chatter')\n"
        "logging.getLogger('flwr').warning('heard once')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["heard once"]
    assert done.stdout == ""
