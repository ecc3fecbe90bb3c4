"""The victims: programs that do what tools like ours have died of, or made programs die of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent / "victims"
PROGRAMS = HERE.parents[1] / "integration/programs"


@dataclass(frozen=True)
class Victim:
    """A program, what it is compiled with, and the words it is started with."""

    source: Path
    words: Sequence[str] = ()
    long_words: Sequence[str] = ()  # of the long form; none: the same
    flags: Sequence[str] = ()
    library: Path | None = None  # compiled as a shared object, its path is the first word
    hosted: bool = True  # can be run inside a Python process, too
    by_itself: bool = False  # without our thread, which has a descriptor open for some microseconds each second


def _ours(name: str, *words: str, **more) -> Victim:
    return Victim(HERE / name, words, **more)


def _known(name: str, *words: str, **more) -> Victim:
    return Victim(PROGRAMS / name, words, **more)


NATIVE = {
    "threads": _ours("threads.c", "150", long_words=("12500",)),
    "descriptors": _ours("closing.c", hosted=False, by_itself=True),  # which numbers are open is the host's
    "no_cfi": _ours("no_cfi.c", "5000", long_words=("1000000",)),
    "big_tls": _ours("big_tls.c", library=HERE / "big_tls_library.c"),
    "daemon": _ours("daemon.c"),
    "malloc_family": _known("family.c", hosted=False),  # what a block has beside it is the host's
    "stacks": _known("stacks.c"),
    "filtered": _ours("filtered.c"),
    "filtered_threads": _ours("filtered.c", "4"),
    "strict_seccomp": _known("strict.c", hosted=False),
    "cpp": _known("new.cc"),
    "forked_loader": _known("forked_loader.c", "threads", library=PROGRAMS / "doors/plug.c"),
    **{f"ends_{how}": _known("ends.c", how, hosted=False) for how in
       ("exit", "quick_exit", "_exit", "return", "abort", "segv", "pthread_exit", "thread_exit", "threads")},
    **{f"spawning_{how}": _known("spawning.c", how) for how in
       ("vfork", "posix_spawn", "clone_vm", "clone", "system", "popen", "daemon", "double_fork")},
}  # fmt: skip

PYTHON = {
    **{f"ending_{how}": _ours("ending.py", how) for how in ("return", "exit", "thread", "signal", "error")},
    "descriptors": _ours("closing.py", by_itself=True),
    "processes": _ours("processes.py"),
    "code": _ours("code.py", "1500", long_words=("1000000",)),
    "modules": _ours("modules.py"),
    "interpreters": _ours("interpreters.py"),
}
