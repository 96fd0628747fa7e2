"""The run manifest: what is written is read, all else is refused, and stages belong together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import PolicyRefused, ReplyRefused
from wardround.common.flower.arrays import ArraySpec
from wardround.common.manifest.leaves import preparation_leaves, training_leaves
from wardround.common.manifest.manifest import Manifest, Versions, summary
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import PROTECTIONS, Leaf
from wardround.common.settings import PrivacyTable, SecureAggregationTable
from wardround.common.trust.identity import Identity, digest

modest = settings(deadline=None, max_examples=60)
SERVER, OTHER = Identity.generate(), Identity.generate()
SECURE, PRIVACY = SecureAggregationTable(), PrivacyTable()
LAYOUT = {"weight": ArraySpec((2, 3), "float32"), "steps": ArraySpec((), "int64")}


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "stage": 1,
        "run": "heart-20260101-120000",
        "federation": "heart",
        "description": "ab" * 32,
        "description_version": 3,
        "descriptor": "cd" * 32,
        "protocol": 2,
        "versions": Versions(wardround="0.1.0", flwr="1.41.0", torch="2.9.0"),
        "task": "tabular",
        "task_sha256": "",
        "model_family": "logistic",
        "rounds": 20,
        "cohort": 2,
        "uploads": 48,
        "largest_weight": None,
        "first_model": "",
        "strategy": "scaffold",
        "algorithms": ("scaffold",),
        "privacy": PRIVACY,
        "secure_aggregation": SECURE,
        "roster": ("a", "b"),
        "leaves": preparation_leaves(SECURE, PRIVACY, ["control"]),
    }
    return Manifest(**values | changes)


def second(first: Manifest, *extra: Leaf) -> Manifest:
    filled = training_leaves(
        SECURE, PRIVACY, LAYOUT, ["weight"], {"control": {"weight": LAYOUT["weight"]}}
    )
    leaves = (*(leaf for leaf in first.leaves if not leaf.open), *filled, *extra)
    return manifest(stage=2, leaves=leaves, largest_weight=40, first_model="ef" * 32)


def leaf(**changes: Any) -> Leaf:
    values: dict[str, Any] = {"message_type": m.TRAIN, "record": m.ARRAYS, "name": "extra"}
    values |= {"shape": (1,), "dtype": "float32", "protection": "masked"}
    return Leaf(**values | changes)


# --- any manifest -------------------------------------------------------------------------------
printable = st.characters(categories=["L", "M", "N", "P", "S"]) | st.just(" ")
text = st.text(printable, min_size=1, max_size=20)
hospital = st.text("abcXYZ0189", min_size=1, max_size=4).map(lambda x: x + "_.-"[: len(x) - 1])
sha = st.binary(min_size=32, max_size=32).map(bytes.hex)
leaves = st.lists(
    st.builds(
        Leaf,
        message_type=text,
        record=text,
        name=text,
        shape=st.none() | st.lists(st.integers(0, 2**40), max_size=4).map(tuple),
        dtype=st.sampled_from(["float32", "int64", "bytes", "texts", "int"]),
        protection=st.sampled_from(PROTECTIONS),
    ),
    max_size=5,
    unique_by=lambda leaf: leaf.place,
).map(tuple)
tables = st.tuples(
    st.builds(
        SecureAggregationTable,
        enabled=st.booleans(),
        bits=st.sampled_from([16, 32]),
        clip=st.floats(1e-9, 1e9),
        max_examples=st.none() | st.integers(1, 2**53 - 1),
        threshold=st.floats(0.5, 0.99),
        min_cohort=st.integers(2, 100),
    ),
    st.builds(
        PrivacyTable,
        unit=st.sampled_from(["example", "hospital"]),
        epsilon=st.floats(1e-3, 1e4),
        delta=st.floats(1e-12, 0.1),
    ),
)


@st.composite
def manifests(draw: Any) -> Manifest:
    roster = sorted(draw(st.sets(hospital, min_size=1, max_size=5)))
    secure, privacy = draw(tables)
    stage = draw(st.sampled_from([1, 2]))
    return manifest(
        stage=stage,
        uploads=draw(st.integers(1, 1_000_000)),
        largest_weight=draw(st.integers(1, 2**53 - 1)) if stage == 2 else None,
        first_model=draw(sha) if stage == 2 else "",
        run=draw(text),
        federation=draw(hospital),
        description=draw(sha),
        descriptor=draw(sha),
        task=draw(text),
        task_sha256=draw(sha | st.just("")),
        rounds=draw(st.integers(1, 1_000_000)),
        cohort=draw(st.integers(1, len(roster))),
        algorithms=tuple(draw(st.lists(text, min_size=1, max_size=3))),
        privacy=privacy,
        secure_aggregation=secure,
        roster=tuple(roster),
        leaves=draw(leaves),
    )


@modest
@given(manifests())
def test_what_is_signed_is_read(one: Manifest) -> None:
    data = one.signed(SERVER)
    back = Manifest.read(data, SERVER.public)
    assert back == one and back.signed(SERVER) == data and back.digest() == one.digest()


@modest
@given(manifests(), manifests())
def test_equal_digests_mean_equal_manifests(one: Manifest, other: Manifest) -> None:
    assert (one.digest() == other.digest()) == (one == other)


@modest
@given(manifests(), st.data())
def test_no_byte_can_be_changed_cut_or_added(one: Manifest, data: Any) -> None:
    good = one.signed(SERVER)
    place = data.draw(st.integers(0, len(good) - 1))
    flipped = good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))])
    for bad in (flipped + good[place + 1 :], good[:place], good + b" ", good + good):
        with pytest.raises((PolicyRefused, ReplyRefused)):
            Manifest.read(bad, SERVER.public)


@modest
@given(st.binary(max_size=300))
def test_signed_nonsense_is_refused(body: bytes) -> None:
    with pytest.raises(ReplyRefused):
        Manifest.read(SERVER.sign(digest("run manifest", body)) + body, SERVER.public)


def test_another_servers_signature_is_refused() -> None:
    with pytest.raises(PolicyRefused, match="isn't signed by the server"):
        Manifest.read(manifest().signed(OTHER), SERVER.public)


# --- one field wrong, rightly signed ------------------------------------------------------------
def altered(change: Any) -> bytes:
    values = json.loads(manifest().body())
    change(values)
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda v: v.update(extra=1), "extra"),
        (lambda v: v.pop("rounds"), "rounds"),
        (lambda v: v.update(rounds=0), "rounds"),
        (lambda v: v.update(rounds=True), "rounds"),
        (lambda v: v.update(rounds="20"), "rounds"),
        (lambda v: v.update(rounds=20.0), "rounds"),
        (lambda v: v.update(stage=3), "stage"),
        (lambda v: v.update(format=2), "format"),
        (lambda v: v.update(run="a\nb"), "run"),
        (lambda v: v.update(run="\u202e"), "run"),
        (lambda v: v.update(run="x" * 201), "run"),
        (lambda v: v.update(federation="../x"), "federation"),
        (lambda v: v.update(description="AB" * 32), "description"),
        (lambda v: v.update(task_sha256="ab"), "task_sha256"),
        (lambda v: v.update(algorithms=[]), "algorithms"),
        (lambda v: v.update(roster=["b", "a"]), "roster"),
        (lambda v: v.update(roster=["a", "a"]), "roster"),
        (lambda v: v.update(roster=["a", "b\n"]), "roster"),
        (lambda v: v.update(cohort=3), "cohort"),
        (lambda v: v["privacy"].update(unit="family"), "privacy.unit"),
        (lambda v: v["privacy"].update(unit="patient"), "privacy"),
        (lambda v: v["secure_aggregation"].update(bits=8), "secure_aggregation.bits"),
        (lambda v: v["secure_aggregation"].update(seed=1), "secure_aggregation.seed"),
        (lambda v: v["versions"].pop("torch"), "versions.torch"),
        (lambda v: v["leaves"].append(v["leaves"][0]), "two leaves"),
        (lambda v: v["leaves"][0].update(protection="strong"), "leaves.0.protection"),
        (lambda v: v["leaves"][0].update(dtype="object"), "leaves.0.dtype"),
        (lambda v: v["leaves"][0].update(shape=[-1]), "leaves.0.shape"),
        (lambda v: v["leaves"][0].update(shape=[1] * 17), "leaves.0.shape"),
        (lambda v: v["leaves"][0].update(name="x" * 513), "leaves.0.name"),
        (lambda v: v.update(stage=2), "open"),
    ],
)
def test_a_wrong_field_is_refused_by_name(change: Any, names: str) -> None:
    body = altered(change)
    with pytest.raises(ReplyRefused, match=names.replace(".", r"\.")) as refused:
        Manifest.read(SERVER.sign(digest("run manifest", body)) + body, SERVER.public)
    assert "\n" not in str(refused.value) and len(str(refused.value)) <= 300


@pytest.mark.parametrize(
    "body",
    [
        b" " + manifest().body(),
        manifest().body() + b"\n",
        manifest().body().replace(b'"cohort":2', b'"cohort":2,"cohort":2'),
        manifest().body().replace(b'"clip":8.0', b'"clip":8'),
        manifest().body().replace(b'"clip":8.0', b'"clip":8.00'),
        manifest().body().replace(b'"heart"', b'"he\\u0061rt"'),
        json.dumps(json.loads(manifest().body()), sort_keys=True).encode(),
    ],
)
def test_another_spelling_of_the_same_is_refused(body: bytes) -> None:
    assert json.loads(body) == json.loads(manifest().body())
    with pytest.raises(ReplyRefused):
        Manifest.from_body(body)


def test_a_deep_or_large_body_is_refused_in_a_line() -> None:
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe"):
        with pytest.raises(ReplyRefused, match="can't be read"):
            Manifest.from_body(body)
    with pytest.raises(ReplyRefused, match="impossible size"):
        Manifest.read(bytes(64 * 2**20 + 1), SERVER.public)


# --- stages -------------------------------------------------------------------------------------
def test_stage_2_fills_in_the_model_and_nothing_else() -> None:
    one = manifest()
    two = second(one)
    assert two.continues(one) and not two.weaker_than(one)
    assert not any(x.open for x in two.leaves)
    names = {x.place for x in two.leaves}
    assert (m.TRAIN, "arrays", "weight") in names and (m.TRAIN, "control", "weight") in names
    assert not one.continues(one) and not two.continues(two) and not one.continues(two)


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "other"},
        {"federation": "other"},
        {"rounds": 21},
        {"cohort": 1},
        {"description_version": 4},
        {"descriptor": "ee" * 32},
        {"task_sha256": "ee" * 32},
        {"algorithms": ("plain",)},
        {"roster": ("a", "c")},
        {"versions": Versions(wardround="0.2.0", flwr="1.41.0", torch="2.9.0")},
        {"privacy": PrivacyTable(unit="example", epsilon=1.0)},
        {"secure_aggregation": SecureAggregationTable(min_cohort=2)},
    ],
)
def test_a_stage_2_that_changes_anything_else_continues_nothing(changes: dict[str, Any]) -> None:
    one = manifest()
    assert not second(one).model_copy(update=changes).continues(one)


@pytest.mark.parametrize(
    "extra",
    [
        leaf(message_type=m.EVALUATE),
        leaf(record="patients"),
        leaf(record=m.METRICS, dtype="float"),
        leaf(record=m.SECAGG, name="more", dtype="bytes"),
        leaf(message_type=m.DESCRIBE, record="describe"),
    ],
)
def test_a_stage_2_that_adds_another_leaf_continues_nothing(extra: Leaf) -> None:
    one = manifest()
    assert second(one, leaf()).continues(one)
    assert not second(one, extra).continues(one)


def test_a_stage_2_that_drops_or_alters_a_fixed_leaf_continues_nothing() -> None:
    one = manifest()
    two = second(one)
    for number, fixed in enumerate(two.leaves):
        if fixed not in one.leaves:
            continue
        rest = two.leaves[:number] + two.leaves[number + 1 :]
        weaker = fixed.model_copy(update={"protection": "none"})
        for changed in (rest, (*rest, weaker)):
            if set(changed) != set(two.leaves):
                assert not two.model_copy(update={"leaves": changed}).continues(one)


def test_weaker_protection_in_stage_2_is_found() -> None:
    one = manifest()
    weak = leaf(protection="none")
    two = second(one, weak)
    assert two.continues(one) and two.weaker_than(one) == [weak]


def test_the_summary_is_the_weakest_protection() -> None:
    kinds = [leaf(protection=one) for one in PROTECTIONS]
    assert [summary(kinds[start:]) for start in range(len(kinds))] == list(PROTECTIONS)
    assert summary([]) == "keys"
