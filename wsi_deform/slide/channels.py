"""What channels of a slide mean: red, green and blue of stained tissue, gray, or something that is no picture of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wsi_deform.errors import SlideError
from wsi_deform.slide.path import SlidePath

GRAYSCALE = "grayscale; models have seen RGB"
RGB_NAMES = ("red", "green", "blue")
# Names that writers give where nobody named a channel: "Channel:0:1", "channel_2", "C1", "3".
_NO_NAME = re.compile(r"(channel|chan|ch|c|band|sample)?[\s:_#-]*[\d:\s]*", re.IGNORECASE)
SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What a file says about a channel.

    Attributes:
        name: Its name, or "".
        colour: The RGB that it is to be shown in, or None.
        is_fluorescence: Whether a fluorophore, an emission wavelength or a contrast method says so.
    """

    name: str = ""
    colour: tuple[int, int, int] | None = None
    is_fluorescence: bool = False

    @property
    def own_name(self) -> str:
        """The name, "" where it is no more than a number."""
        return "" if _NO_NAME.fullmatch(self.name.strip()) else self.name.strip()


def check_channels(path: SlidePath, channels: Sequence[Channel], count: int) -> tuple[str, ...]:
    """Refuse what is no RGB and no gray picture.

    Args:
        path: The file, for messages.
        channels: What it says of its channels, each of which is stored by itself; none where it says nothing.
        count: How many are stored.

    Returns:
        Remarks.

    Raises:
        SlideError: There are other than 1, 3 or 4 (with transparency) channels, or they are said to be fluorescence,
            or by their names or colours not red, green and blue.
    """
    said = f" ({channel_names(channels)})" if channel_names(channels) else ""
    if any(channel.is_fluorescence for channel in channels):
        raise SlideError(f"{path}: a fluorescence slide of {_counted(count)}{said}. {_needed()}")
    if count not in (1, 3, 4):
        raise SlideError(f"{path}: {_counted(count)}{said}. {_needed()}")
    if count == 1:
        return (GRAYSCALE + (f"; its channel is called {channels[0].own_name}" if said else ""),)
    if len(channels) >= 3 and not _are_rgb(channels[:3]):
        raise SlideError(f"{path}: {_counted(count)}{said} that are not red, green and blue. {_needed()}")
    return ()


def channel_names(channels: Sequence[Channel]) -> str:
    """Their names in one line, of those that have one."""
    names = [channel.own_name for channel in channels if channel.own_name]
    more = f", and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _needed() -> str:
    return (
        "Needed red, green and blue of stained tissue in transmitted light, or gray. Choose another slide: a model of "
        "such slides cannot label this one"
    ) + "."


def _counted(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _are_rgb(channels: Sequence[Channel]) -> bool:
    names = [channel.own_name.lower() for channel in channels]
    if any(names) and len(set(names)) > 1:
        return all(
            name == wanted[0] or wanted in re.split("[^a-z]+", name)
            for name, wanted in zip(names, RGB_NAMES, strict=True)
        )
    colours = [channel.colour for channel in channels]
    if None in colours or len(set(colours)) == 1:
        return True
    # Pure or not, each is brightest in its own place.
    return all(
        colour is not None and colour[place] > max(other for at, other in enumerate(colour) if at != place)
        for place, colour in enumerate(colours)
    )
