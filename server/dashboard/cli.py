"""``wardround account``: who may sign in to the dashboard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from wardround.common.command_line import example, new_commands, new_console, new_group
from wardround.common.errors import ConfigError
from wardround.common.names import name_of

commands = new_commands()
account = new_group("account", "Who may sign in to the dashboard: add, list, remove.")
commands.add_typer(account)

NameArgument = Annotated[
    str, typer.Argument(help="Of the account; with --provider a value of the claim.")
]
ConfigArgument = Annotated[
    Path, typer.Argument(metavar="FEDERATION_TOML", help="The federation or network.")
]
ProviderOption = Annotated[
    bool,
    typer.Option(
        "--provider",
        help="Who signs in at the OpenID Connect provider: NAME is a value of "
        "server.dashboard.oidc_claim, such as an e-mail address or a group.",
    ),
]
FEDERATION = Path("federation.toml")


@account.command(epilog=example("wardround account add anna network.toml --role researcher:anna"))
def add(
    name: NameArgument,
    config: ConfigArgument = FEDERATION,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="coordinator, researcher:NAME or hospital:NAME; repeatable.",
        ),
    ] = None,
    provider: ProviderOption = False,
) -> None:
    """Let somebody sign in, or give who may already another password and other roles.

    The password is asked for; without a terminal it is the first line of the standard input.
    """
    from wardround.common.config.load import load_config
    from wardround.server.dashboard.sign_in.accounts import Account, Way, changing, is_account_name
    from wardround.server.dashboard.sign_in.passwords import hash_password
    from wardround.server.dashboard.sign_in.roles import read_roles
    from wardround.server.dashboard.sign_in.setup import accounts_path

    settings = load_config(config)
    path, roles = accounts_path(settings), read_roles(role or [])
    if not is_account_name(name):
        raise ConfigError(f"account {name!r:.60}: use 1 to 200 characters that can be printed")
    kept = "" if provider else hash_password(_password(name))
    way: Way = "provider" if provider else "password"
    with changing(path) as accounts:
        known = (way, name) in accounts
        accounts[way, name] = Account(name=name, way=way, roles=roles, hash=kept)
    said = ", ".join(sorted(map(str, roles)))
    _line(f"{name}: {'changed' if known else 'added'}, {said}; kept in {path}")
    named = {"hospital": settings.server.hospitals, "researcher": settings.server.researchers}
    for one in sorted(roles):
        if one.party and one.party not in map(name_of, named[one.kind]):
            _line(f"note: no {one.kind} '{one.party}' is in {config}: {one} sees nothing")
    _line("a dashboard that has people sign in takes this over by itself; another one: start it")


@account.command("list", epilog=example("wardround account list network.toml"))
def list_command(config: ConfigArgument = FEDERATION) -> None:
    """Show who may sign in, how, and with which roles."""
    from wardround.server.dashboard.sign_in.accounts import read_accounts

    table = Table()
    for column in ("name", "signs in by", "roles"):
        table.add_column(column, overflow="fold")
    for one in sorted(read_accounts(_path(config)).values(), key=lambda one: (one.name, one.way)):
        roles = ", ".join(sorted(map(str, one.roles)))
        table.add_row(Text(one.name), one.way, Text(roles))
    new_console().print(table)


@account.command(epilog=example("wardround account remove anna network.toml"))
def remove(
    name: NameArgument, config: ConfigArgument = FEDERATION, provider: ProviderOption = False
) -> None:
    """Let somebody sign in no more; who is signed in is out at once."""
    from wardround.server.dashboard.sign_in.accounts import changing, read_accounts

    path = _path(config)
    read_accounts(path)  # none is made where there is none
    with changing(path) as accounts:
        if accounts.pop(("provider" if provider else "password", name), None) is None:
            way = "" if provider else "; --provider if it is of the provider's"
            raise ConfigError(
                f"account {name!r:.60}: isn't in {path}{way}", mend="wardround account list"
            )
    _line(f"{name}: removed")


def _path(config: Path) -> Path:
    from wardround.common.config.load import load_config
    from wardround.server.dashboard.sign_in.setup import accounts_path

    return accounts_path(load_config(config))


def _password(name: str) -> str:
    if sys.stdin.isatty():
        text = f"Password of {name}"
        return str(typer.prompt(text, hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def _line(text: str) -> None:
    new_console().print(Text(text))
