"""What an examination finds, in words that may be shown to anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wsi_deform.errors import WsiDeformError
from wsi_deform.faults import with_notes

Status = Literal["ok", "remark", "fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What it belongs to, e.g. "codecs".
        subject: What was looked at, e.g. "jpeg2000".
        status: "ok"; "remark", which one should know of; or "fault", with which something does not work.
        text: What was found.
        remedy: What to do about it; empty where there is nothing to do.
    """

    topic: str
    subject: str
    status: Status
    text: str
    remedy: str = ""


class Remark(Exception):  # noqa: N818  no error: what one should know of
    """What a check found is no fault; raised inside ``tried`` alone.

    Args:
        text: What was found.
        remedy: What to do about it; empty takes that of the check.
    """

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.remedy = remedy


def tried(
    topic: str, subject: str, check: Callable[[], str], *, remedy: str = "", otherwise: Status = "fault"
) -> Finding:
    """Do a check; whatever it raises is what was found.

    Args:
        topic: As of ``Finding``.
        subject: As of ``Finding``.
        check: Returns what it found where all is well.
        remedy: What to do where it is not.
        otherwise: What it is where the check fails.

    Returns:
        The finding.
    """
    try:
        return Finding(topic=topic, subject=subject, status="ok", text=check())
    except Remark as remark:
        remedy = remark.remedy or remedy
        return Finding(topic=topic, subject=subject, status="remark", text=str(remark), remedy=remedy)
    except Exception as error:  # noqa: BLE001  whatever is broken here is what is looked for
        said = str(error) if isinstance(error, WsiDeformError) else with_notes(error)
        return Finding(topic=topic, subject=subject, status=otherwise, text=said, remedy=remedy)
