"""A run manifest for people: what the run is, and exactly what will leave this hospital."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wardround.client.site.joint_text import PROCEDURES as JOINT
from wardround.common.compression.writing import REACH
from wardround.common.errors import WardroundError
from wardround.common.manifest.manifest import Manifest
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import ANY, Leaf, Protection
from wardround.common.secagg.graph import thresholds
from wardround.common.settings import (
    CALIBRATE,
    DESCRIBE,
    EVALUATE,
    MONITOR,
    PURPOSES,
    STATISTICS,
    TRAIN,
    TREES,
)

_WIDTH = 100
_WORDS: dict[Protection, str] = {
    "none": "nothing protects it from the server",
    "sizes": "nothing protects it; numbers of rows or steps, names and shapes only",
    "noised": "it carries the noise of differential privacy",
    "sealed": "for another party of the plan: the server carries it and can't read it",
    "masked": "the server learns the sum over hospitals only",
    "masked+noised": "the server learns a sum over hospitals only, and noise is in it",
    "keys": "no data is in it: keys, signatures, names",
}

_PROCEDURES = {
    DESCRIBE: (
        "rows, gaps, means, deviations, quantiles and categories of the task's columns, of every "
        "row here that the task can use; no model is trained"
    ),
    STATISTICS: (
        "sums for the analyses that the study lists, of every row here that the task can use; no "
        "model is trained"
    ),
    TREES: (
        "trees that predict the task's target are grown: sums of gradients of the rows to train "
        "on, by bins of each column and by nodes of the trees so far, and figures of held-out "
        "rows. Which rows a node has, the server says from one sum to the next"
    ),
    EVALUATE: (
        "figures of a finished model, which this hospital has itself: on its held-out rows, or on "
        "all of them where the settings say so, also with inputs altered where these ask for it; "
        "no model is trained"
    ),
    CALIBRATE: (
        "one or two numbers that correct a finished model's predictions, in some forty steps at "
        "most, and its figures before and after: on held-out rows, or on all of them where the "
        "settings say so; no model is trained"
    ),
    MONITOR: (
        "how often each input, score and outcome of a finished model, which this hospital has "
        "itself, falls into which bin: of its held-out rows, or of all of them where the settings "
        "say so; no model is trained"
    ),
}

_PROCEDURES |= JOINT
_OWN = (
    "sums that this hospital's own copy of that file works out; its SHA-256 stands in the settings "
    "that all share"
)


def plan_text(manifest: Manifest) -> str:
    """Tables of plain text, 100 characters wide."""
    output = io.StringIO()
    console = Console(file=output, width=_WIDTH, color_system=None, force_terminal=False)
    run = Table(box=None, show_header=False, pad_edge=False)
    run.add_column(no_wrap=True)
    run.add_column()
    for name, value in _facts(manifest):
        run.add_row(Text(name), Text(value))
    leaving = Table(box=SIMPLE, pad_edge=False)
    for heading in ("message", "record", "what", "form", "protection"):
        leaving.add_column(heading, overflow="fold")
    for row in _rows(manifest):
        leaving.add_row(*(Text(cell) for cell in row))
    console.print(run)
    console.print("\nWhat leaves this hospital:", leaving)
    for protection in dict.fromkeys(leaf.protection for leaf in manifest.leaves):
        console.print(Text(f"{protection}: {_WORDS[protection]}"))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def _rows(manifest: Manifest) -> list[tuple[str, str, str, str, str]]:
    """Message, record, names, form and protection; neighbours that differ in name only are one."""
    parts = [
        (leaf.message_type, leaf.record, _form(leaf), leaf.protection, leaf.name)
        for leaf in manifest.leaves
    ]
    rows = []
    for (kind, record, form, protection), same in itertools.groupby(parts, lambda part: part[:4]):
        names = ", ".join("every array" if part[4] == ANY else part[4] for part in same)
        rows.append((kind, record, names, form, protection))
    return rows


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    versions = manifest.versions
    stage = "1: before the model is known" if manifest.stage == 1 else "2: with the model's arrays"
    task = manifest.task
    if manifest.task_sha256:
        task += f" (SHA-256 {manifest.task_sha256})"
    return [
        ("run", manifest.run),
        ("plan", manifest.digest().hex()),
        ("stage", stage),
        ("federation", f"{manifest.federation}, version {manifest.description_version}"),
        ("hospitals", _many(manifest.roster)),
        ("task", task),
        *(_training(manifest) if manifest.procedure == TRAIN else _asking(manifest)),
        *([] if manifest.procedure in JOINT else [("secure aggregation", _secure(manifest))]),
        *_blind(manifest),
        ("privacy", _privacy(manifest)),
        *_covered(manifest),
        (
            "server's versions",
            f"wardround {versions.wardround}, flwr {versions.flwr}, torch "
            f"{versions.torch}, protocol {manifest.protocol}",
        ),
    ]


def _training(manifest: Manifest) -> list[tuple[str, str]]:
    return [
        ("model", _model(manifest)),
        ("first model", _first_model(manifest)),
        ("rounds", _rounds(manifest)),
        ("questions", _questions(manifest)),
        ("strategy", f"{manifest.strategy} (algorithm {', '.join(manifest.algorithms)})"),
    ]


def _rounds(manifest: Manifest) -> str:
    text = f"{manifest.rounds}, with {manifest.cohort} hospitals each"
    if any(leaf.message_type == m.BEGIN for leaf in manifest.leaves):
        text += (
            ": those that are ready first; what this one trains it sends in a later sum, scaled "
        )
        text += "by its age (federation.pace = 'buffered')"
    return text


def _asking(manifest: Manifest) -> list[tuple[str, str]]:
    """Of a study that trains nothing: what is asked, and how often."""
    steps = f"at most {manifest.steps}, one sum of all hospitals each"
    if manifest.procedure in JOINT:
        steps = (
            f"at most {manifest.steps}: one for keys, in each other sealed letters between parties"
        )
    elif manifest.secure_aggregation.enabled:
        steps += f"; for each at most {manifest.uploads} masked vectors, of which one sum is opened"
    else:
        steps += ", as often as the server asks"
    return [
        ("procedure", f"{manifest.procedure}: {_PROCEDURES.get(manifest.procedure, _OWN)}"),
        ("steps", steps),
    ]


def _many(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)}: {', '.join(names[:most])}{more}"


def _model(manifest: Manifest) -> str:
    if manifest.stage == 1:
        return f"{manifest.model_family}; its arrays are known with the second manifest"
    shared = [x for x in manifest.leaves if (x.message_type, x.record) == (m.TRAIN, m.ARRAYS)]
    numbers = sum(math.prod(leaf.shape or ()) for leaf in shared)
    return f"{manifest.model_family}: {numbers:,} numbers in {len(shared)} arrays, listed below"


def _first_model(manifest: Manifest) -> str:
    if manifest.stage == 1:
        return "known with the second manifest"
    return manifest.first_model or "not fixed: the server may begin from any"


def _questions(manifest: Manifest) -> str:
    """How often this hospital's rows are computed with, at most."""
    rounds, uploads = manifest.rounds, manifest.uploads
    prepared = any(leaf.message_type == m.STATISTICS for leaf in manifest.leaves)
    parts = [
        "sums that prepare the data, of the task's own names" if prepared else "",
        f"training in {rounds} rounds",
        f"figures after each of {rounds} rounds",
    ]
    text = "; ".join(part for part in parts if part)
    if manifest.secure_aggregation.enabled:
        return f"{text}; for each at most {uploads} masked vectors, of which one sum is opened"
    return f"{text}; each as often as the server asks"


def _secure(manifest: Manifest) -> str:
    table = manifest.secure_aggregation
    if not table.enabled:
        return "off: the server sees this hospital's own updates and figures"
    try:
        found = thresholds(manifest.cohort, table.threshold)
        fewest = max(table.min_cohort, min(found.survivors, manifest.cohort))
    except WardroundError:  # no graph of so many holds: the rules refuse the plan
        fewest = table.min_cohort
    weight = "known with the second manifest" if manifest.stage == 1 else manifest.largest_weight
    return (
        f"on: sums of at least {fewest} hospitals, threshold {table.threshold:g}, "
        f"{table.colluding} colluding, {_written(manifest)}; largest weight of a hospital: {weight}"
    )


def _blind(manifest: Manifest) -> list[tuple[str, str]]:
    """What the server can't read, who can, and what it reads all the same."""
    if not manifest.secure_aggregation.blind:
        return []
    return [
        (
            "blind server",
            "of training the server reads neither the sum of updates nor a model after the first: "
            "hospitals of this run make each round's model themselves, by a key that the first of "
            "them by name draws for all, and one gives it sealed to another that lacks it. The "
            "server reads sums that prepare the data, sums of figures, and the mean training loss",
        )
    ]


def _written(manifest: Manifest) -> str:
    """How finely a change is written, and what is clipped."""
    table, small = manifest.secure_aggregation, manifest.compression
    if small.bits is None:
        return f"{table.bits} bits; a coordinate's change is clipped at {table.clip:g}"
    return (
        f"{small.bits} bits; a layer's change is clipped at {REACH[small.rotation]:g} times its "
        "scale, which follows the sum of the rounds before"
    )


def _privacy(manifest: Manifest) -> str:
    table = manifest.privacy
    if not table.enabled:
        return "off: what leaves may tell of single patients"
    if table.epsilon is not None:
        amount = f"epsilon {table.epsilon:g} for the run"
    else:
        amount = f"noise multiplier {table.noise_multiplier:g}"
    return (
        f"of each {table.unit}: {amount} at delta {table.delta:g}, {table.noise} noise, "
        f"{table.clipping} clipping at {table.clipping_norm:g}"
    )


def _covered(manifest: Manifest) -> list[tuple[str, str]]:
    """What privacy pays for, each purpose's part of epsilon, and what leaves without noise."""
    table, trains = manifest.privacy, manifest.procedure == TRAIN
    if not table.enabled:
        return []
    covers, shares = table.covers or [], table.shares
    told = {
        "preparation": f"preparation (share {shares.preparation:g})",
        "evaluation": f"figures of held-out rows (share {shares.evaluation:g} of theirs)",
    }
    if table.epsilon is None:
        told = {"preparation": "preparation", "evaluation": "figures of held-out rows"}
    lines = [("covered by it", ", ".join(told.get(one, one) for one in covers))]
    exact = [one for one in PURPOSES if trains and one != "statistics" and one not in covers]
    if exact:
        sums = "exact sums of all hospitals"
        if not manifest.secure_aggregation.enabled:
            sums = "this hospital's own exact sums"
        lines.append(("not covered", f"{', '.join(exact)}: {sums}, which no noise hides anyone in"))
    return lines


def _form(leaf: Leaf) -> str:
    shape = None if leaf.shape is None else " x ".join(map(str, leaf.shape))
    if leaf.dtype == "bytes":
        return f"{shape} bytes" if shape else "bytes"
    if leaf.dtype in ("text", "texts"):
        return _text_form(leaf.shape or ())
    dtype = "as the model has it" if leaf.dtype == "any" else leaf.dtype
    return f"{dtype} {shape or ''}".strip() + (", in the vector" if leaf.inside else "")


def _text_form(shape: Sequence[object]) -> str:
    """How much text: characters, or lines of so many characters; nothing where none may leave."""
    if 0 in shape:
        return "nothing in this run"
    lines = f"{shape[0]} lines of " if len(shape) == 2 else ""
    return f"text, at most {lines}{shape[-1]} characters"
