"""``[simulation]`` and ``[server]``: where hospitals and coordinator run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from wardround.common.address import ADDRESS, join_address, split_address
from wardround.common.names import ROLES, Role, name_of
from wardround.common.settings.base import (
    DAY_S,
    MANY,
    Fraction,
    PathText,
    Seconds,
    Table,
)
from wardround.common.settings.dashboard import DashboardTable
from wardround.common.settings.declared import Name

EMULATED = "secure aggregation is emulated: the same sums to the bit, no keys or masks"
"""What is said of a run whose masks are."""


class SimulationTable(Table):
    """``[simulation]``: hospitals that exist only on this machine."""

    clients: int = Field(5, ge=1, le=MANY, description="hospitals to partition into")
    partition: Literal[
        "auto",
        "dirichlet",
        "iid",
        "quantity",
        "sites",
        "column",
        "patient",
        "feature_shift",
        "virtual",
        "vertical",
    ] = Field(
        "auto",
        description=(
            "`dirichlet` (by label), `iid`, `quantity`, `patient`, `column`, `feature_shift`, "
            "`sites` (a folder of hospitals), `virtual` (made when sampled), `vertical` (by the "
            "columns of `[task.parties]`); `auto`: sites for a folder, else dirichlet, of a joint "
            "procedure vertical: [partitions](simulation.md#partitions)"
        ),
    )
    rows_per_client: int = Field(
        50, ge=1, le=MANY, description="of a virtual client, all splits together"
    )
    column: Name = Field(
        "",
        description=(
            "whose values are the hospitals (`column`), or whose order tells them apart "
            "(`feature_shift`)"
        ),
    )
    alpha: float = Field(1.0, ge=1e-6, le=1e9, description="smaller is more unequal")
    feature_noise: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="noise on inputs: hospital i of n gets variance `feature_noise` i / n",
    )
    vertical_overlap: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the rows that all parties have (`vertical`); each other has one",
    )
    min_examples: int = Field(10, ge=1, le=MANY, description="per hospital")
    leave_out: list[str] = Field(
        [],
        max_length=1000,
        description=(
            "hospitals that take no part: at the end the model is evaluated there, on all rows"
        ),
    )
    dropout: Fraction = Field(
        0.0, description="probability that a hospital fails before it answers a training request"
    )
    unmask_dropout: Fraction = Field(
        0.0, description="probability that it fails after its masked upload"
    )
    scenario: PathText | dict[str, Any] = Field(
        "",
        description=(
            "a file (meant from this one's folder), or its tables as `[simulation.scenario]`: "
            "[scenarios](simulation.md#scenarios)"
        ),
    )
    baselines: bool = Field(True, description="also train local and pooled models")
    masks: Literal["auto", "protocol", "emulated"] = Field(
        "auto",
        description=(
            "of secure aggregation: `protocol` (real keys and masks), `emulated` (the same sums "
            "without them), `auto`: the protocol up to 64 clients: "
            "[masks](simulation.md#masks-of-thousands)"
        ),
    )
    threads: int = Field(1, ge=1, le=1024, description="of torch, per process")
    executor: Literal[
        "auto", "sequential", "cohort", "processes", "processes-sequential", "ray"
    ] = Field("auto", description="how clients are run: [executors](simulation.md#executors)")
    ray_address: str = Field(
        "",
        pattern=r"^(auto|[A-Za-z0-9.\-]+:[0-9]{1,5})?$",
        description=(
            "of the Ray cluster: `host:port`, `auto` (one that this machine is in), or empty: the "
            "same, and without one it starts"
        ),
    )

    @model_validator(mode="after")
    def _says_what_to_part_by(self) -> SimulationTable:
        if self.partition == "column" and not self.column:
            raise ValueError(
                "partition = 'column' needs simulation.column: the column that says each row's "
                "hospital"
            )
        if self.partition == "feature_shift" and not self.column and not self.feature_noise:
            raise ValueError(
                "partition = 'feature_shift' needs simulation.column, a numeric one to sort rows "
                "by, or simulation.feature_noise above 0"
            )
        return self


_LONGEST_TITLE = 200

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-]{1,253}$")]


class ServerTable(Table):
    """``[server]``: the coordinator's process, and the members that are provisioned."""

    address: str = Field(
        "localhost:8443",
        pattern=f"^{ADDRESS}$",
        description=(
            "host and port that hospitals dial, an IPv6 address in brackets; stands in the "
            "server's certificate"
        ),
    )
    listen: str = Field(
        "",
        max_length=300,
        description="host and port to listen on; empty: all interfaces, the port of `address`",
    )
    dashboard_hosts: list[HostName] = Field(
        [],
        max_length=100,
        description="names under which a proxy in front asks for the dashboard, without port",
    )
    dashboard: DashboardTable = Field(
        DashboardTable(), description="who may look at the dashboard: `[server.dashboard]`"
    )
    hospitals: list[str] = Field(
        [],
        description="the hospitals that `wardround provision` makes start-up kits for; whatever "
        "people call them: [names](deployment.md#names)",
    )
    researchers: list[str] = Field(
        [],
        description="who may submit studies to a network; kits as for hospitals: "
        "[roles](deployment.md#roles)",
    )
    coordinators: list[str] = Field(
        [], description="who sees all studies of a network and may end any; kits as for hospitals"
    )
    description_days: int = Field(
        30,
        ge=1,
        le=366,
        description=(
            "how long a signed description is valid, and so how long a server could hide a "
            "revocation: [renewing it](deployment.md#the-signed-description-ends)"
        ),
    )
    folder: PathText = Field("provision", description="where authority, server keys and kits lie")
    wait_s: Seconds = Field(
        60.0, description="once `min_clients` are connected: how long to wait for the others"
    )
    heartbeat_s: float = Field(
        3.0, gt=0, le=DAY_S, description="both ends say so often that they live"
    )
    lease_s: float = Field(
        12.0,
        gt=0,
        le=DAY_S,
        description="a connection that was silent so long is dead, and its identity free again",
    )
    max_message_mb: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="a larger message is refused, and more that one party is sending at once",
    )
    max_spool_mb: int = Field(
        65_536,
        ge=1,
        le=100_000_000,
        description="of answers that wait at the server, or are coming; more are refused",
    )
    max_connections: int = Field(
        256, ge=1, le=10_000, description="streams at a time, authenticated or not"
    )

    @property
    def titles(self) -> dict[str, str]:
        """What people call each of ``hospitals``, by its name."""
        return self.titles_of("hospital")

    def titles_of(self, role: Role) -> dict[str, str]:
        """What people call the members of a role, by their names."""
        return {name_of(title): title for title in self._listed(role)}

    def _listed(self, role: Role) -> list[str]:
        return {
            "hospital": self.hospitals,
            "researcher": self.researchers,
            "coordinator": self.coordinators,
        }[role]

    @field_validator("address", "listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return join_address(*split_address(value)) if value else value

    @model_validator(mode="after")
    def _is_sensible(self) -> ServerTable:
        self._check_titles()
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                "lease_s must be at least twice heartbeat_s: one lost beat is no death"
            )
        return self

    def _check_titles(self) -> None:
        """Names of all roles are in one name space."""
        called: dict[str, tuple[Role, str]] = {}
        for role in ROLES:
            titles = self._listed(role)
            for title in titles:
                if not title.strip() or not title.isprintable() or len(title) > _LONGEST_TITLE:
                    raise ValueError(
                        f"{role}s: {title!r:.60} is no name; write 1 to {_LONGEST_TITLE} characters"
                    )
                name = name_of(title)
                other = called.setdefault(name.casefold(), (role, title))
                if other == (role, title):
                    continue
                if other[1] == title:
                    raise ValueError(
                        f"{role}s: {title!r:.60} stands in {other[0]}s too; a name is one "
                        "member's, whatever its role: call one otherwise"
                    )
                raise ValueError(
                    f"{role}s: {other[1]!r:.60} and {title!r:.60} would both be '{name}' in "
                    "certificates and folders; call one otherwise"
                )
            if len(set(titles)) < len(titles):
                raise ValueError(f"{role}s: a name stands there twice")
