"""Who decides each field of the frames that a server sends. Frames carry; what they carry is held
against the plan by those who open it."""

from __future__ import annotations

from wardround.common.decided import Decided, bound, keys
from wardround.common.transport import frames

_BOX = "common.transport.mailbox.Mailbox.receive"
_DIAL = "client.transport.connection.Connection.run"
_HEADS = "client.process.main.HospitalProcess.heads"
_WAITS = "at most an hour; how long it waits shapes no answer"
_MESSAGE = "names a message of its own that waits; another one is passed over"

SENT: dict[type[frames.Frame] | type[frames.Chunk], dict[str, Decided]] = {
    frames.Welcome: {
        "instance": keys("whether it is another process: then what waited is forgotten", _DIAL),
        "heartbeat_s": keys(_WAITS, _DIAL),
        "lease_s": keys(_WAITS, _DIAL),
        "most_bytes": bound(
            "the smaller one of it and the signed limit holds",
            "client.transport.connection.Connection.set_limit",
        ),
        "description": keys(
            "signed by the authority, of this federation, newer than its own; its "
            "`valid_until` is held against the hospital's own clock at each request",
            "client.site.kit.Kit.update_description",
        ),
    },
    frames.Refused: {
        "code": keys("one of the known; it waits longer, and sends nothing", _DIAL),
        "reason": keys("a line for people", _DIAL),
    },
    frames.Start: {
        "number": keys("of this connection", _BOX),
        "id": keys(
            "one that it answered gets the kept bytes again, and nothing is worked out twice",
            "client.process.responder.Responder.wanted",
        ),
        "kind": keys("a request", "client.transport.connection.Connection.wanted"),
        "type": bound(
            "one that the accepted plan has answers to", "client.site.gate.Gate.may_begin"
        ),
        "study": bound(
            "one whose plan was shown here, or a manifest that shows it; '' in a federation that "
            "is one",
            "client.process.main.HospitalProcess.request",
        ),
        "reply_to": keys("nothing: an answer isn't taken from a server at all", ""),
        "size_bytes": bound(
            "within the signed limit, with all that is coming; a manifest's before one is accepted",
            _BOX,
        ),
        "digest": keys("of what came", _BOX),
        "reason": keys("nothing: it is an error's, and none is taken from a server", ""),
        "code": keys("nothing: as the reason", ""),
    },
    frames.Have: {
        "number": keys(_MESSAGE, _BOX),
        "offset": keys("within the message", _BOX),
    },
    frames.Got: {
        "number": keys(_MESSAGE, _BOX),
        "offset": keys("within what was sent", _BOX),
    },
    frames.Done: {"id": keys(_MESSAGE, _BOX)},
    frames.Failed: {
        "id": keys(_MESSAGE, _BOX),
        "reason": keys("a line for the log", _BOX),
        "again": keys("the same bytes are sent, at most three times in all", _BOX),
    },
    frames.Drop: {
        "id": keys(
            "a request that it hasn't begun isn't answered",
            "client.process.responder.Responder.drop",
        )
    },
    frames.Ping: {},
    frames.Heads: {
        "head": keys("signed by the server; not below the last one", _HEADS),
        "countersigned": keys(
            "a head of its own log; one that the log lacks stops private training", _HEADS
        ),
        "signature": keys("of the server's key, over that head", _HEADS),
    },
    frames.Bye: {"reason": keys("a line for people", _DIAL)},
    frames.Chunk: {
        "number": keys("of a message that was begun", _BOX),
        "offset": keys("where the message goes on", _BOX),
        "data": keys("no more than was announced, of its digest", _BOX),
    },
}
"""Not ``Hello`` and ``Again``: a hospital says them. ``position`` is never a frame's: requests have
theirs."""
