"""What the tokens of a `back_trace` stand for: `0x1234` in the program itself, elsewhere `lib.so+0x1234`.

A token is a return address, one past a call, but the innermost of a stack may be the instruction itself; a
recording knows which.
"""

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from .errors import QueryError
from .shown import file_name

if TYPE_CHECKING:
    from .recording import Recording
    from .records import Frame, Module

PADDING = "0x0"

_WORD_ENDS = re.compile(r"[\s,;]+")
_TOKEN = re.compile(r"(?:(?P<name>.+)\+)?0x(?P<address>[0-9a-fA-F]{1,16})\Z")
_SHOWN_MODULES = 5


class Place(NamedTuple):
    """What a symbolizer is asked for; build_id None means that any build will do."""

    path: str
    build_id: Optional[str]
    vaddr: int
    exact: bool

    @property
    def shown(self) -> str:
        """The place as a token that names the module, also of the program itself."""
        return f"{file_name(self.path)}+0x{self.vaddr:x}"


def words(text: str) -> list[str]:
    """Return the tokens of a `back_trace` column, however it was pasted; padding is kept."""
    return [word for word in _WORD_ENDS.split(text.strip("\"'[]()| \t\r\n")) if word]


def is_padding(token: str) -> bool:
    """Tell whether a token only fills the column up."""
    return token == PADDING


def is_token(word: str) -> bool:
    """Tell whether a word reads like a token."""
    return _TOKEN.match(word) is not None


def split(token: str) -> tuple[Optional[str], int]:
    """Return a token's module, None for the program itself, and the address in it.

    Raises:
        QueryError: it is not a token.
    """
    found = _TOKEN.match(token)
    if found is None:
        raise QueryError(f"{token!r} is no token of a back_trace: they read 0x1234 or lib.so+0x1234")
    return found["name"], int(found["address"], 16)


class RecordedPlaces:
    """The places in recordings that tokens stand for."""

    def __init__(self, recordings: Iterable["Recording"]) -> None:
        from .stacks import token as token_of  # the command is also for plain addresses, and starts faster without

        self._recorded: dict[str, set[Place]] = {}
        self._modules: list[Module] = []
        for recording in recordings:
            frames: set[Frame] = set()
            for row in recording.rows:
                frames.update(row.stack)
            for frame in frames:
                module = recording.module(frame.module_id)
                place = Place(module.path, module.build_id, frame.vaddr, frame.exact)
                self._recorded.setdefault(token_of(module, frame), set()).add(place)
            self._modules += recording.modules

    def place(self, token: str) -> Place:
        """Return the place of a token.

        One that no recorded stack has is looked for among the modules by its name, and taken for a return address.

        Raises:
            QueryError: there is no such module, or there are several of that name.
        """
        name, address = split(token)
        key = token if name is None else f"{file_name(name)}+0x{address:x}"
        found = self._recorded.get(key.lower() if name is None else key, set())
        if not found:
            found = {
                Place(module.path, module.build_id, address, False)
                for module in self._modules
                if (module.is_main if name is None else file_name(module.path) == file_name(name))
            }
        if name is not None and "/" in name:
            found = {place for place in found if place.path == name}
        if not found:
            raise QueryError(f"{token}: the recording has no module {name or 'that is the program itself'}")
        if len({place[:2] for place in found}) > 1:
            paths = sorted({f"{place.path} (build-id {place.build_id or 'none'})" for place in found})
            raise QueryError(f"{token} may be in any of {_few(paths)}: ask one recording, or name the path: PATH+0x…")
        return min(found, key=lambda place: place.exact)


class GivenPlaces:
    """The places in binaries that tokens stand for; the first is the program itself."""

    def __init__(self, binaries: Sequence[Union[str, "os.PathLike[str]"]]) -> None:
        self._paths = [os.fspath(binary) for binary in binaries]

    def place(self, token: str) -> Place:
        """Return the place of a token.

        Raises:
            QueryError: none of the binaries has that name, or several have.
        """
        name, address = split(token)
        found = self._paths[:1]
        if name is not None:
            found = [path for path in self._paths if file_name(name) in (file_name(path), _real_name(path))]
        if not found:
            raise QueryError(f"{token}: {file_name(name)} is none of the binaries, {_few(self._paths)}")
        if len(found) > 1:
            raise QueryError(f"{token} may be in any of {_few(found)}")
        return Place(found[0], None, address, False)


def _real_name(path: str) -> str:
    return file_name(os.path.realpath(path))


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_MODULES
    return ", ".join(names[:_SHOWN_MODULES]) + (f" and {more} more" if more > 0 else "")
