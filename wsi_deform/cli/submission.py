"""`wsi-deform submission`: masks in the form that a challenge asks for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.console import plain_console, say


class Challenge(StrEnum):
    """Whose form."""

    camelyon16 = "camelyon16"
    camelyon17 = "camelyon17"
    tiger = "tiger"
    panda = "panda"


EXAMPLES = (
    "wsi-deform submission out --challenge camelyon16",
    "wsi-deform submission out --challenge camelyon17 --min-um 50",
    "wsi-deform submission out --challenge tiger --out /output",
)


def submission(
    masks: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of `segment`.")],
    challenge: Annotated[
        Challenge,
        typer.Option(
            metavar="|".join(Challenge),
            help="camelyon16 needs `segment --probabilities`; panda is refused, with the reason.",
            show_choices=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to; default: submission/CHALLENGE in OUT."),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="CAMELYON: the class that is a metastasis."),
    ] = None,
    min_um: Annotated[
        float,
        typer.Option(min=0, metavar="UM", help="CAMELYON: shorter regions are left out."),
    ] = 0.0,
) -> None:
    """Write finished masks in the form that a challenge asks for (docs/submissions.md)."""
    from wsi_deform.submission.challenges import write_submission

    written = write_submission(masks, challenge.value, to=out, class_name=class_name, min_um=min_um)
    for path in written.files:
        say(str(path))
    plain_console().print(f"Note: {written.remark}.", soft_wrap=True)
