"""The run manifest: what a run is and exactly what will leave a hospital, signed by the server.

A hospital compares it with its own rules and its own copy of the settings before anything runs, and
its gate lets nothing out that isn't listed. There are two stages. The first comes before anything
runs: the model's arrays aren't known yet, so each record of them is one leaf with the name '*'. The
second is the same manifest with these leaves filled, once all agree on the model's layout.

A manifest is canonical JSON under an Ed25519 signature: one byte sequence for each, known keys
only, every field of bounded size.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from wardround.common.config.load import Config
from wardround.common.errors import PolicyRefused, ReplyRefused
from wardround.common.names import HospitalName
from wardround.common.protocol.leaf import ANY, PROTECTIONS, Leaf, Text
from wardround.common.protocol.sums import MOST_STEPS
from wardround.common.settings import (
    TRAIN,
    CompressionTable,
    PrivacyTable,
    SecureAggregationTable,
    Table,
)
from wardround.common.text import one_line
from wardround.common.trust.identity import SIGNATURE_BYTES, Identity, digest, verify

FORMAT: Literal[1] = 1
MOST_BYTES = 64 * 2**20
MOST_LEAVES = 200_000
MOST_HOSPITALS = 10_000
_PROCEDURE = r"^([a-z][a-z0-9_-]{0,63}|[^/\\:\x00-\x1f]{1,150}\.py:[A-Za-z_]\w{0,99})$"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9.!_-]{1,64}$")]


class Versions(Table):
    """Of what computes at the server; without local parts."""

    wardround: Version
    flwr: Version
    torch: Version


class Manifest(Table):
    """What a run is.

    stage : 1 before anything runs, 2 with the model's arrays
    run : the run directory's name, which privacy ledgers keep
    study : of a network: its study's id; '' in a federation that is one study
    description, description_version : of the federation's signed description; hexadecimal digest
    descriptor : digest of the settings that all parties share, hexadecimal
    task, task_sha256 : its name; of a file also the digest of its bytes, else ''
    procedure, steps : what is asked, and in how many steps at most; 'train' has rounds instead. One
        of a file is named without its folder
    rounds : of training; 1 of another procedure, which has none
    cohort : hospitals that are asked in a round
    uploads : most vectors that a hospital sends for one masked sum, of all attempts together
    largest_weight : of a hospital's update in a masked sum; None in stage 1
    first_model : digest of the shared arrays that round 1 trains from, hexadecimal; '' in stage 1
    algorithms : the hospitals' half of the strategy
    privacy, secure_aggregation : the server's tables; what is each hospital's own has its default
    compression : the settings' table
    roster : names of all hospitals, ordered
    leaves : exactly what leaves a hospital
    """

    format: Literal[1] = FORMAT
    stage: Literal[1, 2]
    run: Text
    study: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    federation: HospitalName
    description: Digest
    description_version: int = Field(ge=1, lt=2**31)
    descriptor: Digest
    protocol: int = Field(ge=0, lt=2**31)
    versions: Versions
    task: Text
    task_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    model_family: Text
    procedure: Annotated[str, Field(pattern=_PROCEDURE)] = TRAIN
    steps: int = Field(0, ge=0, le=MOST_STEPS)
    rounds: int = Field(ge=1, le=1_000_000)
    cohort: int = Field(ge=1, le=MOST_HOSPITALS)
    uploads: int = Field(ge=1, le=1_000_000)
    largest_weight: int | None = Field(ge=1, lt=2**53)
    first_model: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    strategy: Text
    algorithms: Annotated[tuple[Text, ...], Field(min_length=1, max_length=8)]
    privacy: PrivacyTable
    secure_aggregation: SecureAggregationTable
    compression: CompressionTable = CompressionTable()
    roster: Annotated[tuple[HospitalName, ...], Field(min_length=1, max_length=MOST_HOSPITALS)]
    leaves: Annotated[tuple[Leaf, ...], Field(max_length=MOST_LEAVES)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if list(self.roster) != sorted(set(self.roster)):
            raise ValueError("the roster is not distinct and ordered")
        if self.cohort > len(self.roster):
            raise ValueError("the cohort is larger than the roster")
        if len({leaf.place for leaf in self.leaves}) < len(self.leaves):
            raise ValueError("two leaves stand in one place")
        if self.stage == 2 and any(leaf.open for leaf in self.leaves):
            raise ValueError("stage 2 leaves arrays of the model open")
        if self.stage == 2 and not (self.largest_weight and self.first_model):
            raise ValueError("stage 2 lacks the largest weight or the first model's digest")
        if (self.procedure == TRAIN) != (self.steps == 0) or (self.steps and self.stage == 2):
            raise ValueError("training has rounds and a model, other procedures have steps")
        return self

    def body(self) -> bytes:
        """The canonical JSON that is signed."""
        values = self.model_dump(mode="json")
        if not self.study:  # as it was before there were networks: approvals of then go on
            del values["study"]
        if self.procedure == TRAIN:  # likewise, before there was anything else
            del values["procedure"], values["steps"]
        if not self.compression.enabled:
            del values["compression"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def digest(self) -> bytes:
        """32 bytes that stand for this manifest in approvals and logs."""
        return digest("run manifest", self.body())

    def lasting_digest(self) -> bytes:
        """32 bytes for what a server that is started again shows alike: uploads follow from
        ``federation.round_attempts``, which may be another then, as may its versions."""
        versions = Versions(wardround="any", flwr="any", torch="any")
        return self.model_copy(update={"uploads": 1, "versions": versions}).digest()

    def signed(self, identity: Identity) -> bytes:
        """Signature and body. Raises ReplyRefused for a manifest that no one could read."""
        body = self.body()
        if self.from_body(body) != self:
            raise ReplyRefused("a run manifest that doesn't read back as itself is not signed")
        return identity.sign(digest("run manifest", body)) + body

    @classmethod
    def read(cls, data: bytes, server_public: bytes) -> Self:
        """The manifest in ``data``.

        Raises PolicyRefused unless that server signed it, ReplyRefused for anything but exactly
        one manifest in which every field is of its type, size and range.
        """
        if not isinstance(data, bytes) or not SIGNATURE_BYTES < len(data) <= MOST_BYTES:
            raise ReplyRefused("the run manifest is missing or of an impossible size")
        signature, body = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if not verify(server_public, signature, digest("run manifest", body)):
            raise PolicyRefused(
                "the run manifest isn't signed by the server that federation.signed names"
            )
        return cls.from_body(body)

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        """The manifest that this canonical JSON is. Raises ReplyRefused."""
        try:
            manifest = cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "as a whole"
            line = one_line(f"the run manifest can't be read ({key}: {first['msg']})")
            raise ReplyRefused(line) from None
        if manifest.body() != body:
            raise ReplyRefused("the run manifest is not in its one canonical form")
        return manifest

    def continues(self, earlier: Manifest) -> bool:
        """Whether this is ``earlier`` with nothing changed but what is known with the model filled
        in: its arrays, the first one's digest, the largest weight."""
        if (earlier.stage, self.stage) != (1, 2):
            return False
        known = ("stage", "leaves", "largest_weight", "first_model")
        if self.model_copy(update={key: getattr(earlier, key) for key in known}) != earlier:
            return False
        vectors = {leaf.place for leaf in earlier.leaves if leaf.open and leaf.name != ANY}
        records = {leaf.place[:2] for leaf in earlier.leaves if leaf.open and leaf.name == ANY}
        fixed = {leaf for leaf in earlier.leaves if not leaf.open}
        filled = set(self.leaves) - fixed
        return fixed <= set(self.leaves) and all(
            leaf.place in vectors or leaf.place[:2] in records for leaf in filled
        )

    def weaker_than(self, earlier: Manifest) -> list[Leaf]:
        """Leaves whose record ``earlier`` had not listed with that protection."""
        known = {(*leaf.place[:2], leaf.protection) for leaf in earlier.leaves}
        return [x for x in self.leaves if (*x.place[:2], x.protection) not in known]


def uploads_of(config: Config) -> int:
    """Most vectors that a hospital sends for one masked sum. A server that is started again makes
    ``federation.round_attempts`` further attempts, and what people change meanwhile is none: no
    hospital should stand in the way of that. What is sent and not opened tells nothing."""
    return 16 * config.federation.round_attempts


def summary(leaves: list[Leaf]) -> str:
    """The weakest protection among the leaves, for an audit line; 'keys' for none."""
    return min((leaf.protection for leaf in leaves), key=PROTECTIONS.index, default="keys")
