"""What tests make a process do: die at a named point, lie, be slow. Called in the zygote's child.

Each function replaces something of the product in this process only.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


def _owner(place: str) -> tuple[Any, str]:
    """'package.module:Class.method' as the object that has it, and its name there."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def wrap(place: str, around: Callable[..., Any]) -> None:
    """Replace a function by ``around(original, *arguments)``."""
    owner, name = _owner(place)
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(owner, name, call)


def die(place: str, when: str = "before", count: int = 1, once: str = "", has: str = "") -> None:
    """SIGKILL this process at the ``count``-th call of ``place``.

    once : a file that is made then; where it exists nothing happens, so that a process that is
        started again with the same patches lives
    has : counts only calls whose arguments' text has this
    """
    calls = 0

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        if has and has not in repr((args, kwargs)):
            return original(*args, **kwargs)
        calls += 1
        if calls != count or (once and Path(once).exists()):
            return original(*args, **kwargs)
        if when == "after":
            original(*args, **kwargs)
        if once:
            Path(once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    wrap(place, around)


def slow(place: str, seconds: float) -> None:
    """Sleep before every call of ``place``."""

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return original(*args, **kwargs)

    wrap(place, around)


def hold(place: str, count: int, until: str) -> None:
    """From the ``count``-th call of ``place`` on, wait for the file ``until`` before each."""
    calls = 0

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        end_s = time.monotonic() + 120
        while calls >= count and not Path(until).exists() and time.monotonic() < end_s:
            time.sleep(0.02)
        return original(*args, **kwargs)

    wrap(place, around)


def hold_at(place: str, has: str, at: str, until: str) -> None:
    """The first call of ``place`` whose arguments' text has this makes the file ``at``, and waits
    for the file ``until``."""

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        end_s = time.monotonic() + 120
        if has in repr((args, kwargs)) and not Path(at).exists():
            Path(at).touch()
            while not Path(until).exists() and time.monotonic() < end_s:
                time.sleep(0.02)
        return original(*args, **kwargs)

    wrap(place, around)


def shift_clock(places: list[str], days: str) -> None:
    """Each of ``places``, which give the time, gives one that is as many days later as the file
    ``days`` says now."""

    def around(original: Callable[..., datetime], *args: Any, **kwargs: Any) -> datetime:
        return original(*args, **kwargs) + timedelta(days=float(Path(days).read_text()))

    for place in places:
        wrap(place, around)


def skip(place: str) -> None:
    """Calls of ``place`` do nothing."""
    wrap(place, lambda original, *args, **kwargs: None)


def constant(place: str, value: Any) -> None:
    """Replace a module's or class's value."""
    owner, name = _owner(place)
    setattr(owner, name, value)


def version(text: str) -> None:
    """A hospital that says it has another version."""
    constant("wardround.client.transport.connection:own_version", lambda: text)


def record_unmasking(file: str) -> None:
    """Write down every survivor set that this hospital opened a sum for, and with which shares."""
    from wardround.client.secagg.party import SecureClient
    from wardround.common.secagg.messages import Shares, UnmaskRequest

    original = SecureClient.unmask

    def unmask(self: SecureClient, data: bytes) -> bytes:
        answer = original(self, data)
        request, shares = UnmaskRequest.from_bytes(data), Shares.from_bytes(answer)
        line = {
            "group": request.group.hex(),
            "index": request.index,
            "survivors": list(request.survivors),
            "shares": [share.hex() for share in shares.shares],
        }
        with open(file, "a", encoding="ascii") as output:
            output.write(json.dumps(line) + "\n")
        return answer

    SecureClient.unmask = unmask  # type: ignore[method-assign]


def spoil(kinds: list[str]) -> None:
    """A hospital's training answers are spoilt, each in the next way; nothing holds it back."""
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

    from wardround.client.process.responder import Responder
    from wardround.common.flower.arrays import encode_arrays
    from wardround.common.protocol import names as m

    left = list(kinds)

    def bad(kind: str, content: RecordDict) -> RecordDict:
        arrays = {k: np.array(a.numpy()) for k, a in content.array_records[m.ARRAYS].items()}
        name = sorted(arrays)[-1]
        metrics = dict(content.metric_records[m.METRICS])
        extra: dict[str, Any] = {}
        match kind:
            case "nan":
                arrays[name].flat[0] = np.nan
            case "inf":
                arrays[name].flat[0] = np.inf
            case "huge":
                arrays[name].flat[0] = 3e38
            case "shape":
                arrays[name] = arrays[name].reshape(-1)[:1]
            case "dtype":
                arrays[name] = arrays[name].astype(np.float64)
            case "missing":
                del arrays[name]
            case "extra":
                arrays["more"] = arrays[name]
            case "record":
                extra["more"] = ConfigRecord({"k": 1})
            case "weight":
                metrics[m.NUM_EXAMPLES] = 10**12
            case "negative":
                metrics[m.NUM_EXAMPLES] = -5
            case "large":
                extra["more"] = ArrayRecord({"x": Array(np.zeros(300_000))})
            case "pickle":
                before = dict(content.array_records[m.ARRAYS])
                array = before[name]
                before[name] = Array(array.dtype, array.shape, "pickle", array.data)
                return RecordDict(dict(content) | {m.ARRAYS: ArrayRecord(before)})
        records = dict(content) | {
            m.ARRAYS: encode_arrays(arrays),
            m.METRICS: MetricRecord(metrics),
        }
        return RecordDict(records | extra)

    def run(original: Callable[..., Message], self: Responder, work: Any) -> Message:
        reply = original(self, work)
        if work.start.type == m.TRAIN and left and reply.has_content():
            reply.content = bad(left.pop(0), reply.content)
        return reply

    wrap("wardround.client.process.responder:Responder._run_app", run)
    constant("wardround.client.site.last_word:LastWord.may_leave", lambda *_: "none")


def repeat_answers() -> None:
    """A hospital that sends every answer three times, twice under other ids."""
    from wardround.common.transport.mailbox import Mailbox

    def put(original: Callable[..., None], self: Mailbox, start: Any, body: Any = None) -> None:
        original(self, start, body)
        for letter in "ef":
            original(self, start.model_copy(update={"id": letter * 64}), body)

    wrap("wardround.client.transport.connection:Mailbox.put", put)


def speak_nonsense(count: int, once: str) -> None:
    """Every ``count``-th frame of a hospital is preceded by noise, of four kinds."""
    from wardround.client.transport.connection import Connection

    frames = 0

    def outgoing(original: Callable[..., Any], self: Connection, *args: Any) -> Any:
        nonlocal frames
        for data in original(self, *args):
            frames += 1
            if frames % count == 0 and frames // count <= 4:
                Path(once).touch()
                kind = frames // count
                yield [b"\x63noise", b"\0" + b"\1" * 40, data[:-1] + b"\xff", b"\x06{}"][kind - 1]
            yield data

    wrap("wardround.client.transport.connection:Connection._outgoing", outgoing)


def fail_writes(place: str, count: int, after: int = 0, error: int = 28) -> None:
    """``count`` calls of ``place`` fail as on a full disk, after the first so many."""
    calls = 0

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if after < calls <= after + count:
            raise OSError(error, os.strerror(error))
        return original(*args, **kwargs)

    wrap(place, around)


def limit_files(size_bytes: int) -> None:
    """No file of this process can grow beyond so much: writing fails, as on a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


# --- a lying server ------------------------------------------------------------------------------
def lie_about_survivors(name: str, once: str) -> None:
    """Hospital ``name`` is asked to open the sum of fewer hospitals than the others, once."""
    from wardround.common.secagg.messages import UnmaskRequest

    def around(original: Callable[..., dict[str, bytes]], self: Any) -> dict[str, bytes]:
        requests = original(self)
        if not Path(once).exists() and self.task.purpose.startswith("train"):
            Path(once).touch()
            requests[name] = _fewer(UnmaskRequest.from_bytes(requests[name])).to_bytes()
        return requests

    wrap("wardround.server.secagg.sum:MaskedSum.unmask_requests", around)


def _fewer(true: Any) -> Any:
    from wardround.common.secagg.messages import UnmaskRequest

    return UnmaskRequest(true.group, true.index, true.survivors[:-1], true.ciphertexts)


def ask_for_both_shares(file: str) -> None:
    """After the hospitals opened a sum, ask them again as if one hadn't taken part."""
    from wardround.common.protocol import names as m
    from wardround.common.secagg.messages import UnmaskRequest

    def around(original: Callable[..., Any], self: Any, step: Any, masked: Any, *rest: Any) -> Any:
        members, requests = rest
        total = original(self, step, masked, members, requests)
        lies = {n: _fewer(UnmaskRequest.from_bytes(r)).to_bytes() for n, r in requests.items()}
        messenger = self._messenger
        messages = messenger.messages(m.UNMASK, members, lies, 1)
        for member, _, reply in messenger._messenger.exchange(messages, members):
            said = (
                "none" if reply is None else reply.error.reason if reply.has_error() else "SHARES"
            )
            with open(file, "a", encoding="utf-8") as output:
                output.write(f"{member.name}: {said}\n")
        return total

    wrap("wardround.server.secagg.sum_runner:SumRunner._open", around)


def lie_in_manifest(**values: Any) -> None:
    """The manifest says something else than what the server does."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs).model_copy(update=values)

    wrap("wardround.server.reception.manifest:preparation_manifest", around)


def swap_roster() -> None:
    """The server's own roster has a key of its own in place of each hospital's."""
    from wardround.common.trust.identity import Identity
    from wardround.server.secagg.key_groups import KeyGroup

    def around(original: Callable[..., None], self: KeyGroup, request: Any, roster: Any) -> None:
        names = sorted(roster)
        original(self, request, dict(roster) | {names[0]: Identity.generate().public})

    wrap("wardround.server.secagg.key_groups:KeyGroup.__init__", around)


def another_model_for(node: int) -> None:
    """One hospital of the cohort gets another model than the rest, in every round."""
    from flwr.app import ArrayRecord, RecordDict

    from wardround.common.flower.arrays import encode_arrays
    from wardround.common.protocol import names as m

    def around(original: Callable[..., Any], *args: Any) -> Any:
        requests = original(*args)
        content = requests[node].content
        arrays = {k: a.numpy() + 1.0 for k, a in content.array_records[m.ARRAYS].items()}
        record: ArrayRecord = encode_arrays({k: v.astype("float32") for k, v in arrays.items()})
        requests[node].content = RecordDict(dict(content) | {m.ARRAYS: record})
        return requests

    wrap("wardround.server.rounds.round:RoundRunner._train_requests", around)


def another_group_for(name: str, once: str) -> None:
    """One hospital is told of fewer members of its group than the others, once."""
    from wardround.common.protocol import names as m
    from wardround.common.secagg.messages import GroupRequest

    def around(
        original: Callable[..., Any], self: Any, kind: str, members: Any, data: Any, *rest: Any
    ) -> Any:
        if kind == m.GROUP and name in data and not Path(once).exists():
            Path(once).touch()
            true = GroupRequest.from_bytes(data[name])
            fewer = dataclasses.replace(true, members=true.members[1:])
            data = dict(data) | {name: fewer.to_bytes()}
        return original(self, kind, members, data, *rest)

    wrap("wardround.server.secagg.messenger:SecureMessenger.messages", around)


def copy_what_leaves(folder: str) -> None:
    """Write every frame that leaves this hospital to a file, as it is before TLS."""
    from wardround.common.transport.mailbox import Mailbox

    def around(original: Callable[..., Any], self: Mailbox, *args: Any) -> Any:
        path = Path(folder) / f"{os.getpid()}-{args[0]}"
        with open(path, "ab") as copy:
            for data in original(self, *args):
                copy.write(data)
                copy.flush()
                yield data

    wrap("wardround.common.transport.mailbox:Mailbox.frames", around)
