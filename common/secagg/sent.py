"""Who decides each field of the messages of secure aggregation that a server sends.

Those of hospitals (``Hello``, ``BundleKeys``) come back through the server within its own.
"""

from __future__ import annotations

from wardround.common.decided import Decided, bound, derived, keys, position
from wardround.common.secagg import messages as wire

_PARTY, _CHECKS = "client.secagg.party.SecureClient", "client.secagg.checks"
_GROUP = f"{_CHECKS}.check_group"
_STEPPED = "client.secagg.blind.BlindModels._stepped"
_READ = "a sum read with another is random, and isn't used"
_HOLDER = "common.secagg.group_key.Holder"
_TERMS = "client.secagg.asked.Terms.check"
_SAFE = (
    "safe with its own `colluding`: worked out from the proof's conditions (`common.secagg.safety`)"
)
_SIGNED = f"not below what the signed settings give a complete graph of this size; {_SAFE}"

SENT: dict[type[wire.Message], dict[str, Decided]] = {
    wire.HelloRequest: {
        "nonce": keys("a part of the session's name", f"{_PARTY}.hello"),
        "session": derived(
            "equal to the digest of its own settings and roster, and the nonce", f"{_PARTY}.hello"
        ),
    },
    wire.Hello: {
        "session": position("this session", f"{_CHECKS}.check_hello"),
        "name": bound("in the roster, its own among them", _GROUP),
        "exchange": keys("signed by that hospital", f"{_CHECKS}.check_hello"),
        "signature": keys("of that hospital's key in the roster", f"{_CHECKS}.check_hello"),
    },
    wire.GroupRequest: {
        "session": position("the present one", "client.secagg.state.Memory.session"),
        "first": position("not before the last one that it made keys for", _GROUP),
        "count": bound("1 to 64", _GROUP),
        "degree": bound(f"everyone, up to 64; else {_SAFE}", _GROUP),
        "threshold": bound(_SIGNED, _GROUP),
        "survivors": bound(
            f"{_SIGNED}; no sum of fewer than `min_cohort`, whatever others are told", _GROUP
        ),
        "window": bound(_SAFE, _GROUP),
        "members": bound("distinct, in the roster, no fewer than `min_cohort`", _GROUP),
    },
    wire.KeysRequest: {
        "group": position("one that it made keys for", "client.secagg.state.Memory.group"),
        "digests": keys(
            "shown once, its own among them; hashed into every mask", f"{_PARTY}.accept"
        ),
        "bundles": keys("one of each neighbour, of its digest", f"{_PARTY}.accept"),
    },
    wire.BundleKeys: {
        "group": position("this group", f"{_CHECKS}.check_keys"),
        "name": bound("the neighbour's", f"{_CHECKS}.check_keys"),
        "public_keys": keys(
            "one for each aggregation; signed by the neighbour", f"{_CHECKS}.check_keys"
        ),
        "commitments": keys(
            "one for each aggregation; signed by the neighbour", f"{_CHECKS}.check_keys"
        ),
        "ciphertexts": keys("signed by the neighbour", f"{_CHECKS}.check_keys"),
        "signature": keys("of that hospital's key in the roster", f"{_CHECKS}.check_keys"),
    },
    wire.TaskRequest: {
        "group": position("one whose keys it accepted", f"{_CHECKS}.check_task"),
        "index": position("of the group, and above all it uploaded for", f"{_CHECKS}.check_task"),
        "purpose": position(
            "what the request itself is for; of each one sum is opened", f"{_CHECKS}.check_task"
        ),
        "bits": derived("the settings'; of words of sums those that it works out itself", _TERMS),
        "clip": derived("the settings'; with noise, what it works out from them", _TERMS),
        "largest_weight": bound("the plan's in training, else 1", _TERMS),
        "fine": derived(
            "whether its update carries noise, or gets it, or its sums are words", _TERMS
        ),
    },
    wire.UnmaskRequest: {
        "group": position("one that it made keys for", "client.secagg.state.Memory.group"),
        "index": position("the last one that it uploaded for", f"{_PARTY}.unmask"),
        "survivors": bound(
            "distinct members, itself among them, no fewer than the group's and `min_cohort`, and "
            "without gaps on the ring; one set for each aggregation",
            f"{_CHECKS}.check_survivors",
        ),
        "ciphertexts": keys(
            "one for each neighbour; each opens under the key that both have, bound to group and "
            "aggregation",
            f"{_PARTY}.unmask",
        ),
    },
    wire.DealRequest: {
        "session": position("the present one", f"{_HOLDER}._check_members"),
        "members": keys(
            "distinct, in the roster, each signed for this session, itself the first, no fewer "
            "than `min_cohort`",
            f"{_HOLDER}._check_members",
        ),
    },
    wire.Deal: {
        "session": position("the present one", f"{_HOLDER}._check_members"),
        "members": keys(
            "distinct, in the roster, each signed for this session, its own among them, no fewer "
            "than `min_cohort`",
            f"{_HOLDER}._check_members",
        ),
        "salt": keys("signed by the first of the members, for this run", f"{_HOLDER}.take"),
        "sealed": keys(
            "one for each member; signed by the first of them, its own opens under the key of both",
            f"{_HOLDER}.take",
        ),
        "signature": keys("of the first member's key in the roster", f"{_HOLDER}.take"),
    },
    wire.Blind: {
        "round": keys(f"a part of the mask; {_READ}", _STEPPED),
        "base": keys(f"a model that it has, a part of the mask by its digest; {_READ}", _STEPPED),
        "key": keys(f"one that it was dealt in this run; {_READ}", _STEPPED),
        "context": keys(f"a part of the mask; {_READ}", _STEPPED),
        "clients": keys(f"a part of the mask; {_READ}", _STEPPED),
        "survivors": keys(f"whose masks are taken off; {_READ}", _STEPPED),
        "largest": bound("the plan's", _STEPPED),
        "best": position(
            "nothing: which older one of its own models it keeps; it shapes no answer"
        ),
    },
    wire.SumsLayout: {
        "names": derived("of sums that it has itself", "client.secagg.masking.mask_sums"),
        "shapes": derived("those of its own sums", "client.secagg.masking.mask_sums"),
        "bits": derived("those that it works out itself", "client.secagg.masking.check_words"),
        "words": derived(
            "just those of the sums that it makes words itself", "client.secagg.masking.check_words"
        ),
    },
}
