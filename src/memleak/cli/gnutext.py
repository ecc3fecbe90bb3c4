"""How answers about addresses are printed: the format of GNU addr2line, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple, Optional, Protocol

UNKNOWN = "??"
NO_FILE_NAME = "<unknown>"  # the number of the file is of no file


class Named(Protocol):
    """A frame."""

    @property
    def function(self) -> str | None: ...  # noqa: D102
    @property
    def file(self) -> str | None: ...  # noqa: D102
    @property
    def line(self) -> int | None: ...  # noqa: D102
    @property
    def discriminator(self) -> int: ...  # noqa: D102


class Style(NamedTuple):
    """What is printed; as the options."""

    addresses: bool = False
    functions: bool = False
    inlines: bool = False
    pretty: bool = False
    basenames: bool = False


class Answer(NamedTuple):
    """What is known of one address.

    Attributes:
        address: as it is shown.
        frames: innermost first; may be empty.
        place: shown for a file that is not known, instead of question marks.
    """

    address: str
    frames: Sequence[Named]
    place: Optional[str] = None


def write(answers: Iterable[Answer], style: Style, out: BinaryIO) -> None:
    """Print answers."""
    out.write(os.fsencode("".join(text(answer, style) for answer in answers)))


def text(answer: Answer, style: Style) -> str:
    """Return the lines of one answer.

    The discriminator is the innermost place's on all lines: GNU addr2line has no other.
    """
    between = " at " if style.pretty else "\n"
    parts = [answer.address + (": " if style.pretty else "\n")] if style.addresses else []
    if not answer.frames:
        if style.functions:
            # One blank here, where a name has " at ".
            parts.append(UNKNOWN + ((" " if answer.place is None else between) if style.pretty else "\n"))
        return "".join([*parts, answer.place or f"{UNKNOWN}:0", "\n"])
    discriminator = answer.frames[0].discriminator
    for depth, frame in enumerate(answer.frames if style.inlines else answer.frames[:1]):
        if depth and style.pretty:
            parts.append(" (inlined by) ")
        if style.functions:
            parts.append((frame.function or UNKNOWN) + between)
        if frame.file is None and answer.place is not None:
            parts.append(f"{answer.place}\n")
            continue
        file = (NO_FILE_NAME if frame.line else UNKNOWN) if frame.file is None else frame.file
        if style.basenames:
            file = file.rpartition("/")[2]
        line = str(frame.line) if frame.line else "?"
        if frame.line and discriminator:
            line += f" (discriminator {discriminator})"
        parts.append(f"{file}:{line}\n")
    return "".join(parts)
