"""Names for addresses, asked from a program: of recorded stacks, and of any binary."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from . import query
from .aside import aside
from .errors import TargetError
from .recording import Recording
from .tokens import GivenPlaces, Place, RecordedPlaces, is_padding, words

if TYPE_CHECKING:
    from .symbolize import Frame

Path = Union[str, "os.PathLike[str]"]


@aside
def symbolize(
    tokens: Union[str, Iterable[Union[str, int]]],
    *,
    recording: Union[int, Path, Recording, query.Snapshot, None] = None,
    binaries: Sequence[Path] = (),
    sysroot: Optional[str] = None,
    debug_dirs: Sequence[str] = (),
    problems: Optional[dict[str, str]] = None,
) -> list[tuple["Frame", ...]]:
    """Return the frames of recorded places, for each token a tuple, innermost first.

    Each tuple has the function whose code is there, after all calls that the compiler inlined into it. A place that
    nothing is known of has one frame without a function; the padding `0x0` has none.

    Binaries are read in this process. Of a recording, only files of the recorded build are: others would give names
    that look right and are wrong.

    Args:
        tokens: a `back_trace` as it stands in a row, or its tokens: `0x1234` in the program itself, `lib.so+0x1234`
            elsewhere. An int is an address in the program. Each is a return address, and what is found is the call
            before it; a recording knows which are not.
        recording: a pid, a recording, a directory of them, or what `memleak.open` returned: says which file and
            build a token is about.
        binaries: paths of the program and its libraries instead, the program first; not checked for their build.
        sysroot: directory that holds the program's files, as of a container. Without, a pid's own root.
        debug_dirs: further directories like /usr/lib/debug, or with copies of the binaries.
        problems: takes, by path, why a binary gave fewer names than it could.

    Raises:
        ValueError: neither or both of *recording* and *binaries* are given.
        QueryError: a token is none, or is about a module that is not known, or about one of several.
        TargetError, RecordingError: as `memleak.open`.
    """
    if (recording is None) == (not binaries):
        raise ValueError("symbolize() takes either recording= or binaries=")
    places: Union[RecordedPlaces, GivenPlaces] = GivenPlaces(binaries)
    if recording is not None:
        places = RecordedPlaces(_recordings(recording))
        sysroot = sysroot or _root_of(recording)
    from .symbolize import Symbolizer

    with Symbolizer(sysroot=sysroot, debug_dirs=debug_dirs) as symbolizer:
        found = frames(tokens, places, symbolizer)
        if problems is not None:
            problems.update(symbolizer.problems())
    return found


_symbolize = symbolize  # for the package of that name, which is called


def frames(
    tokens: Union[str, Iterable[Union[str, int]]], places: Union[RecordedPlaces, GivenPlaces], symbolizer: Any
) -> list[tuple["Frame", ...]]:
    """Return what *symbolizer* knows of each token; see `symbolize`."""
    given = (
        words(tokens) if isinstance(tokens, str) else [one if isinstance(one, str) else f"{one:#x}" for one in tokens]
    )
    wanted: list[Optional[Place]] = [None if is_padding(one) else places.place(one) for one in given]
    found = iter(symbolizer.resolve([place for place in wanted if place is not None]))
    return [() if place is None else tuple(next(found)) for place in wanted]


def _recordings(target: Union[int, Path, Recording, query.Snapshot]) -> Sequence[Recording]:
    if isinstance(target, Recording):
        return [target]
    return (target if isinstance(target, query.Snapshot) else query.open(target)).recordings


def _root_of(target: Union[int, Path, Recording, query.Snapshot]) -> Optional[str]:
    from . import locate

    return None if isinstance(target, (Recording, query.Snapshot)) else locate.root_of(target)


@aside
def addr2line(
    binary: Path,
    addresses: Iterable[int],
    *,
    section: Optional[str] = None,
    inlines: bool = True,
    demangle: bool = True,
    gnu_compat: bool = False,
    debug_dirs: Sequence[str] = (),
) -> list[tuple["Frame", ...]]:
    """Return the frames of addresses of one binary, for each address a tuple, innermost first.

    What `memleak addr2line` prints, as values: addresses are looked up as they are given, and names and files are
    those of GNU addr2line, with the differences of docs/reference/symbolization.md. Where nothing is known the tuple
    has one frame without a function. The binary is read in this process.

    Args:
        binary: the program or library; a separate debug file is looked for as debuggers do.
        addresses: as in its program headers, not in a process.
        section: addresses are offsets in the section of this name.
        inlines: False for the innermost frame alone.
        demangle: False for names as linkers spell them.
        gnu_compat: exactly the names and files of binutils 2.40 where these are only odd.
        debug_dirs: further directories like /usr/lib/debug.

    Raises:
        TargetError: the binary cannot be read, or has no such section.
    """
    from .symbolize import Frame
    from .symbolize.elf import ElfError
    from .symbolize.gnulines import BinaryLines

    path, wanted = os.fspath(binary), list(addresses)
    try:
        with BinaryLines(path, gnu_compat=gnu_compat, debug_dirs=debug_dirs) as lines:
            chains = lines.chains(wanted, section)
            names = {frame.function for chain in chains for frame in chain if frame.function}
            readable = lines.demangled(names) if demangle else {}
    except ElfError as error:
        raise TargetError(f"{path}: {error}") from error
    except KeyError:
        raise TargetError(f"{path}: it has no section {section}") from None
    found = []
    for address, chain in zip(wanted, chains):
        shown = chain if inlines else chain[:1]
        found.append(
            tuple(
                Frame(
                    function=readable.get(one.function or "", one.function),
                    file=one.file or None,
                    line=one.line,
                    inlined=depth < len(chain) - 1,
                    module=path,
                    offset=address,
                    discriminator=one.discriminator,
                )
                for depth, one in enumerate(shown)
            )
            or (Frame(None, None, None, False, path, address),)
        )
    return found
