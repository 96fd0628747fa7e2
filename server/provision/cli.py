"""``wardround provision``: one command for all that a coordinator makes and hands out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wardround.common.command_line import SetOption, example, new_commands, new_console
from wardround.common.errors import ConfigError
from wardround.common.names import ROLES, SERVER, Role, name_of

if TYPE_CHECKING:  # the command line answers --help without loading what works
    from wardround.common.config.load import Config
    from wardround.common.trust.enrolment import SigningRequest
    from wardround.server.provision.kits import Standing
    from wardround.server.provision.work import Provisioned

_STYLES = {"expires soon": "yellow", "expired": "red", "revoked": "red"}


ConfigArgument = Annotated[Path, typer.Argument(metavar="FEDERATION_TOML", help="The consortium.")]
RequestOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Answer the signing request of a member's own keys."),
]
RenewOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A new certificate for a member, or for 'server'."),
]
RevokeOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Shut a member out, also while running.")
]
ResearcherOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Make a kit for one more researcher, who submits studies."),
]
CoordinatorOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Make a kit for one more coordinator, who may end any."),
]
ListOption = Annotated[
    bool, typer.Option("--list", help="Show every certificate and change nothing.")
]
ZipOption = Annotated[
    bool, typer.Option("--zip", help="Also write each new kit (or else each kit) as NAME.zip.")
]
NewKeyOption = Annotated[
    bool,
    typer.Option(
        "--new-key", help="With --renew or --request: other keys; the old ones are revoked."
    ),
]
commands = new_commands()


class _Asked(NamedTuple):
    """What the command line asks for."""

    request: Path | None
    renew: str | None
    revoke: str | None
    show: bool
    zipped: bool
    new_key: bool
    researcher: str | None
    coordinator: str | None

    def check(self) -> None:
        """Raise ConfigError for options that don't go together."""
        values = {
            "--request": self.request,
            "--renew": self.renew,
            "--revoke": self.revoke,
            "--list": self.show or None,
            "--researcher": self.researcher,
            "--coordinator": self.coordinator,
        }
        chosen = [name for name, value in values.items() if value is not None]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)}: give one at a time")
        if self.new_key and chosen not in (["--renew"], ["--request"]):
            raise ConfigError("--new-key: goes with --renew NAME or --request FILE")
        makes_kits = ("--renew", "--researcher", "--coordinator")
        if self.zipped and chosen and chosen[0] not in makes_kits:
            raise ConfigError(f"--zip: writes kits, and {chosen[0]} makes none")

    @property
    def added(self) -> tuple[Role, str] | None:
        """The member that is to be added."""
        if self.researcher is not None:
            return "researcher", name_of(self.researcher)
        if self.coordinator is not None:
            return "coordinator", name_of(self.coordinator)
        return None


@commands.command("provision", epilog=example("wardround provision federation.toml --zip"))
def provision_command(
    config: ConfigArgument = Path("federation.toml"),
    request: RequestOption = None,
    renew: RenewOption = None,
    revoke: RevokeOption = None,
    show: ListOption = False,
    zipped: ZipOption = False,
    new_key: NewKeyOption = False,
    researcher: ResearcherOption = None,
    coordinator: CoordinatorOption = None,
    overrides: SetOption = None,
) -> None:
    """Make the consortium's authority, the server's certificate and a kit per member.

    Members are hospitals, and of a network researchers and coordinators. Run it again after a
    change of federation.toml: it makes only what is missing, also while the server runs.
    """
    from wardround.common.config.load import load_config

    asked = _Asked(request, renew, revoke, show, zipped, new_key, researcher, coordinator)
    asked.check()
    settings = load_config(config, overrides or [])
    console = new_console()
    if show:
        from wardround.server.provision.kits import standings

        console.print(_table(standings(settings)))
    else:
        _change(console, config, settings, asked)


def _change(console: Console, file: Path, settings: Config, asked: _Asked) -> None:
    from wardround.server.provision import kits as work

    _check_roles(settings, asked)
    request: SigningRequest | None = None
    if asked.request is not None:
        request, done = work.enroll(settings, asked.request, asked.new_key)
    elif asked.renew is not None:
        name = asked.renew if asked.renew == SERVER else name_of(asked.renew)
        done = work.renew(settings, name, asked.new_key)
    elif asked.revoke is not None:
        done = work.revoke(settings, name_of(asked.revoke))
    elif asked.added is not None:
        role, name = asked.added
        done = work.add(settings, name, role=role)
    else:
        done = work.provision(settings)
    kits = done.kits or tuple(work.kits_with_keys(settings))
    zips = [work.zip_kit(kit) for kit in kits] if asked.zipped else []
    _say(console, done, request, zips)
    for one in work.standings(settings):
        if one.state in ("expires soon", "expired"):
            _line(
                console,
                f"{one.name}: certificate {one.state} ({one.expires:%Y-%m-%d}); run it with "
                f"--renew {one.name}",
            )
    _line(console, f"next: {_next(file, done, zips)}")


def _check_roles(settings: Config, asked: _Asked) -> None:
    """Raise ConfigError for members that a federation of one study has no use for."""
    named = settings.server.researchers or settings.server.coordinators
    if settings.network is None and (named or asked.added is not None):
        raise settings.error(
            "server.researchers" if settings.server.researchers else "server.coordinators",
            "researchers and coordinators are members of a network, and this file is of one "
            "study: add a table [network], and leave the study's own tables to study submit",
        )


def _say(
    console: Console, done: Provisioned, asked: SigningRequest | None, zips: list[Path]
) -> None:
    one = done.description
    counts = [
        f"{count} {role}{'s' * (count != 1)}"
        for role in ROLES
        if (count := len(one.members(role))) or role == "hospital"
    ]
    _line(
        console,
        f"{one.federation}: description version {one.version} (valid until "
        f"{one.valid_until[:10]}), {', '.join(counts)}, server at {one.address}",
    )
    _line(console, f"authority (SHA-256): {done.authority_fingerprint}")
    if asked is not None:
        of = "" if asked.role == "hospital" else f"{asked.role} "
        _line(console, f"request of {of}{asked.name}: {asked.fingerprint}")
        _line(
            console,
            f"  ask the {asked.role} by phone whether its own screen shows the same; if not: "
            f"--revoke {asked.name}",
        )
    if not done.changed:
        _line(console, "nothing was missing, nothing was changed")
    for path in (*done.kits, *done.answers, *zips):
        _line(console, f"wrote {_shown(path)}")
    for note in done.notes:
        _line(console, note)
    if done.kits or zips:
        _line(
            console,
            "Each kit holds its owner's private keys: hand it over by a secure way (in person, "
            "or encrypted), then delete it here.",
        )


def _next(file: Path, done: Provisioned, zips: list[Path]) -> str:
    one = done.description
    if not one.hospitals and not done.kits and not done.answers:
        return f"name the hospitals in server.hospitals of {file}, then run this again"
    if done.answers:
        answer = done.answers[0]
        owner, command = "its owner", "study"
        if answer.stem in one.hospitals:
            owner, command = "the hospital", "client"
        return f"send {_shown(answer)} to {owner}: wardround {command} enroll KIT --answer FILE"
    if done.kits and not {kit.name for kit in done.kits} & set(one.hospitals):
        return f"hand over {_shown(done.kits[0])}; with it: wardround study list --kit KIT"
    if done.kits or zips:
        asks = "; a researcher: wardround study submit STUDY_TOML --kit KIT"
        return (
            f"wardround server {file}; at each hospital: wardround client KIT --data SHARD"
            f"{asks if one.researchers else ''}"
        )
    return f"wardround server {file}; a server that runs takes this over by itself"


def _table(rows: list[Standing]) -> Table:
    table = Table()
    for column in ("name", "role", "serial", "expires", "state"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            Text(row.name),
            row.role,
            row.serial,
            f"{row.expires:%Y-%m-%d}",
            Text(row.state, _STYLES.get(row.state, "green")),
        )
    return table


def _line(console: Console, text: str) -> None:
    console.print(Text(text))


def _shown(path: Path) -> str:
    """Relative to where the user stands, if it is below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
