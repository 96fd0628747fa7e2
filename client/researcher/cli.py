"""``wardround study``: commands of a researcher, and of a coordinator, with a kit of that role."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wardround.common.command_line import example, new_commands, new_group

commands = new_commands()
study = new_group("study", "Ask a network of hospitals: submit studies, watch and fetch them.")
commands.add_typer(study)


@study.command("enroll", epilog=example("wardround study enroll anna kits/anna"))
def enroll(
    first: Annotated[
        str, typer.Argument(metavar="NAME|KIT", help="Your name; with --answer the kit.")
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
    coordinator: Annotated[
        bool, typer.Option("--coordinator", help="Keys of a coordinator, not of a researcher.")
    ] = False,
) -> None:
    """Make your own keys, which never leave your machine.

    `enroll NAME KIT` writes a request to hand over; then `enroll KIT --answer FILE`.
    """
    from wardround.client.site import enroll as enrolment
    from wardround.common.names import Role, name_of

    if answer is not None:
        kit = enrolment.accept(answer, folder or Path(first))
        print(f"{kit.folder}: the kit of {kit.info} for '{kit.description.federation}' is complete")
        print(f"compare with the coordinator: authority {kit.authority_fingerprint}")
        print(f"next: wardround study list --kit {kit.folder}")
        return
    name = name_of(first)
    role: Role = "coordinator" if coordinator else "researcher"
    path = enrolment.request(name, folder or Path(name), role)
    print(f"{path}: hand this to the coordinator; it holds no secret")
    print(f"compare by phone: {enrolment.fingerprint(path)}")
    print(f"then: wardround study enroll {path.parent} --answer {name}.answer")
