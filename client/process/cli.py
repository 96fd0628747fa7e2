"""``wardround client``: the hospital's commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from wardround.client.process.arguments import KitArgument, StudyArgument
from wardround.client.process.model_cli import add_model_commands
from wardround.common.command_line import LogOption, example, new_commands, new_group
from wardround.common.transport.only_tls13 import hold_to_tls13

if TYPE_CHECKING:
    from wardround.client.site.kit import Kit
    from wardround.client.site.terms import Data


class _RunByDefault(TyperGroup):
    """``wardround client KIT ...`` is ``wardround client run KIT ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


commands = new_commands()
client = new_group(
    "client",
    "Take part as a hospital: `wardround client KIT --data SHARD`.",
    cls=_RunByDefault,
)
commands.add_typer(client)
add_model_commands(client)


@client.command("run", epilog=example("wardround client kits/north --data patients.csv"))
def run(
    kit: KitArgument,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="SHARD|NAME",
            help="This hospital's data: a file or folder, or NAME of [data.NAME] in site.toml.",
            show_default=False,
        ),
    ] = None,
    example_data: Annotated[
        bool,
        typer.Option(
            "--example-data", help="To try it out: the task's public example data, no patients."
        ),
    ] = False,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda:N", help="Default: what site.toml says.")
    ] = None,
    logs: LogOption = "text",
) -> None:
    """Take part for ever: connect, train when asked, send what the policy allows."""
    hold_to_tls13()  # before the imports below import grpc
    from wardround.client.process.main import HospitalProcess
    from wardround.client.site.kit import Kit
    from wardround.common.errors import DataError
    from wardround.common.process.logs import setup_logging

    setup_logging(logs)
    if data is not None and example_data:
        raise DataError("--data and --example-data: give one of them, not both")
    opened = Kit.open(kit)
    HospitalProcess(opened, _started_with(opened, data, example_data), device).run()


def _started_with(kit: Kit, data: Path | None, example_data: bool) -> Data:
    """A name of ``site.toml``, else a path. Raises DataError where there is neither."""
    from wardround.client.site.policy import load_site
    from wardround.client.site.terms import Data, unknown_data
    from wardround.common.errors import DataError

    if data is None:
        return Data(none=not example_data)
    names = load_site(kit.site_path).data
    if str(data) in names:
        return Data(name=str(data))
    if not data.exists():
        raise DataError(unknown_data(data, names))
    return Data(data)


@client.command("enroll", epilog=example("wardround client enroll north kits/north"))
def enroll(
    first: Annotated[
        str, typer.Argument(metavar="NAME|KIT", help="The hospital's name; with --answer the kit.")
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="KIT", help="The folder to make.", show_default=False, readable=False
        ),
    ] = None,
    answer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The coordinator's answer: complete the kit."),
    ] = None,
) -> None:
    """Make this hospital's own keys, which never leave it.

    `enroll NAME KIT` writes a request to hand over; then `enroll KIT --answer FILE`.
    """
    from wardround.client.site import enroll as enrolment
    from wardround.common.names import name_of

    if answer is not None:
        kit = enrolment.accept(answer, folder or Path(first))
        print(f"{kit.folder}: the kit of {kit.name} for '{kit.description.federation}' is complete")
        print(f"compare with the coordinator: authority {kit.authority_fingerprint}")
        print(f"next: wardround client {kit.folder} --data SHARD")
        return
    name = name_of(first)
    path = enrolment.request(name, folder or Path(name))
    print(f"{path}: hand this to the coordinator; it holds no secret")
    print(f"compare by phone: {enrolment.fingerprint(path)}")
    print(f"then: wardround client enroll {path.parent} --answer {name}.answer")


@client.command("approve", epilog=example("wardround client approve kits/north"))
def approve(
    kit: KitArgument,
    study: StudyArgument = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Approve without asking, also what was rejected last.")
    ] = False,
    reject: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="Reject what waits, and withdraw from the run that goes on."
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="This plan only, by how its digest begins."),
    ] = None,
) -> None:
    """Show the plans that wait for a person, and sign what is approved.

    A decision can be changed at any time, and counts at once: `--reject` stops the next answer of a
    run that goes on, `--yes` lets the hospital take part again.
    """
    from wardround.client.site.consent import decide

    if yes and reject is not None:
        raise typer.BadParameter("give --yes or --reject, not both")
    decide(kit, yes, reject, plan, print, typer.confirm, study)


@client.command(
    "reject", epilog=example("wardround client reject kits/north sepsis 'too few patients'")
)
def reject(
    kit: KitArgument,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Its name, or how its id begins.")],
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Told to who asks.")],
) -> None:
    """Reject a network's study, or withdraw from it: from now on nothing of it leaves.

    `wardround client approve KIT STUDY --yes` changes that.
    """
    from wardround.client.site.consent import decide

    decide(kit, False, reason, None, print, typer.confirm, study)


@client.command("studies", epilog=example("wardround client studies kits/north"))
def studies(kit: KitArgument) -> None:
    """List a network's studies that this hospital was asked for: who asks, why, and where each
    stands here."""
    from wardround.client.site.standing import list_studies

    for line in list_studies(kit):
        print(line)


@client.command("ledger", epilog=example("wardround client ledger kits/north"))
def ledger(
    kit: KitArgument,
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Go on from the ledger as it is, with what is missing added; for the audit log.",
        ),
    ] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", metavar="LEDGER", help="Another ledger of these patients, to be taken over."
        ),
    ] = None,
) -> None:
    """Look at the hospital's privacy ledger, and mend what its audit log can't vouch for.

    What the kit has spent stands in its audit log: `--accept` adds what the ledger lacks of it. A
    ledger that several kits share is mended with each of them.
    """
    from wardround.client.site import ledger as ledgers
    from wardround.client.site.kit import Kit
    from wardround.client.site.policy import load_site
    from wardround.common.errors import PrivacyRefused

    opened = Kit.open(kit)
    path = ledgers.ledger_of(load_site(opened.site_path), opened.folder)
    if accept is not None:
        if not accept.strip():
            raise typer.BadParameter("give the reason, for the audit log", param_hint="--accept")
        added = ledgers.accept(opened, accept, sources or [])
        print(f"{path}: {added} releases were added that it didn't have; it is accepted")
        return
    if missing := ledgers.lost(opened, path, sources or []):
        raise PrivacyRefused(
            f"{path}: lacks {len(missing)} releases that this kit has made; add them: wardround "
            f"client ledger {kit} --accept REASON"
        )
    print(ledgers.state_of(opened))


@client.command("stop", epilog=example("wardround client stop kits/north"))
def stop(
    kit: KitArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Allow it to be started again.")] = False,
) -> None:
    """Kill switch: within a second nothing more leaves, and nothing starts until --undo."""
    from wardround.client.site.stop import stop_hospital

    print(stop_hospital(kit, undo))


@client.command("resume", epilog=example("wardround client resume kits/north"))
def resume(kit: KitArgument) -> None:
    """Show why this hospital failed without the server seeing it, and let it take part again.

    It stops by itself after `max_failures`, of all runs together (`site.toml`).
    """
    from wardround.client.site.failures import resume as resume_hospital
    from wardround.client.site.kit import Kit

    for line in resume_hospital(Kit.open(kit).state):
        print(line)


@client.command("opt-out", epilog=example("wardround client opt-out kits/north -"))
def opt_out(
    kit: KitArgument,
    patient: Annotated[
        str,
        typer.Argument(
            metavar="PATIENT|-", help="As the data write it; -: lines of the standard input."
        ),
    ],
    undo: Annotated[bool, typer.Option("--undo", help="Take off the list again.")] = False,
) -> None:
    """A patient's rows are in no study from its next round on. The list never leaves."""
    from wardround.client.site.held_out import held_out_key
    from wardround.client.site.kit import Kit
    from wardround.client.site.opted_out import change_list, opt_out_path, patients_key
    from wardround.client.site.policy import load_site

    opened = Kit.open(kit)
    site = load_site(opened.site_path)
    path = opt_out_path(site, opened.folder)
    key = patients_key(held_out_key(site, opened.folder))
    typed = sys.stdin if patient == "-" else [patient]
    patients = [line.strip() for line in typed if line.strip()]
    print(f"{path}: {change_list(path, key, patients, undo)} patients have opted out")


@client.command("held", epilog=example("wardround client held kits/north P-1234 --out page"))
def held(
    kit: KitArgument,
    patient: Annotated[
        str,
        typer.Argument(metavar="[PATIENT]", help="As the data write it.", show_default=False),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write it there as a page, signed by the hospital."),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="HELD_JSON", help="Check a page that was written.")
    ] = None,
) -> None:
    """List the studies whose models were trained on a patient's rows, with rounds and epsilon."""
    from wardround.client.site import held as statements
    from wardround.client.site.kit import Kit
    from wardround.common.trust.pki import now_utc

    opened = Kit.open(kit)
    if not patient and check is None:
        raise typer.BadParameter("name the patient", param_hint="PATIENT")
    if check is not None:
        found = statements.check_held(opened, check)
        print(f"{check}: signed by this hospital, made {found.made}")
    else:
        found = statements.held(opened, patient, now_utc())
    for line in found.lines():
        print(line)
    for path in statements.write_held(opened, found, out) if out is not None else ():
        print(f"wrote {path}")


@client.command("results", epilog=example("wardround client results kits/north"))
def results(
    kit: KitArgument,
    study: Annotated[
        str,
        typer.Argument(metavar="[STUDY]", help="How its name or id begins.", show_default=False),
    ] = "",
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hold every file against the server's signature again."),
    ] = False,
) -> None:
    """List studies that are over: model, report, this hospital's own figures, and what left it."""
    from wardround.client.results.listing import list_results, verify_results
    from wardround.client.site.kit import Kit

    folder = Kit.open(kit).folder
    lines = list_results(folder, study) if not verify else verify_results(folder, study)
    for line in lines:
        print(line)


@client.command(
    "deidentify", epilog=example("wardround client deidentify dicom copies --burned-in drop")
)
def deidentify(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder of DICOM files.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A new folder.")],
    burned_in: Annotated[
        Literal["refuse", "drop", "keep"],
        typer.Option(help="What to do with a file whose pixels are said to show the patient."),
    ] = "refuse",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A folder's name to keep (a class); others are numbered."
        ),
    ] = None,
) -> None:
    """Write copies of DICOM files without what identifies patients (PS3.15 basic profile).

    A patient's copies have one new pseudonym. Nobody looks at the pixels.

    Training reads DICOM through the same profile; copies are for data that others look at.
    """
    from wardround.common.errors import DataError

    try:
        from wardround.common.tasks.imaging.deidentify import deidentify_folder

        copies = deidentify_folder(source, target, burned_in, keep or ())
    except ImportError as error:
        raise DataError(
            f"reading DICOM needs {error.name}: pip install 'wardround[imaging]'"
        ) from None
    typer.echo(f"{copies.written} de-identified copies in {target}")
    for line in copies.left_out:
        typer.echo(str(line))
