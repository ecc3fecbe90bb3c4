"""The tracer in each of its ways, and other tools: what is added to a command to run it so, and what it is compared with.

A tool that brings its own allocator is compared with that allocator, and ddtrace, which needs
another environment and takes half a second to import, with itself not started: what is measured is the tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

from . import peers
from .places import PROGRAMS, Places, clean_environment

NATIVE, PYTHON = "native", "python"


class Way(NamedTuple):
    """How a program is started."""

    variables: dict[str, str]
    python: Optional[Path] = None  # another interpreter
    python_words: tuple[str, ...] = ()  # between interpreter and script; DIRECTORY is this process's

    def command(self, words: list[str], kind: str, directory: Path, python: Path) -> list[str]:
        """Return a command; the first word of a Python workload's is its script."""
        if kind == NATIVE:
            return words
        between = [word.replace("DIRECTORY", str(directory)) for word in self.python_words]
        return [str(self.python or python), *between, *words]

    def environment(self, directory: Path, **more: str) -> dict[str, str]:
        """Return the variables of a process."""
        own = {name: value.replace("DIRECTORY", str(directory)) for name, value in self.variables.items()}
        return clean_environment(**more, **own)


class Candidate(NamedTuple):
    """One way to run programs."""

    name: str
    what: str
    kinds: tuple[str, ...]
    way: Callable[[Places], Way]  # raises NotAvailable
    baseline: str = "stock"


BOTH = (NATIVE, PYTHON)


def memleak(mode: str, door: str, **more: str) -> Callable[[Places], Way]:
    """Return the tracer's way; every process has a seed of its own."""

    def way(places: Places) -> Way:
        variables = {"MEMLEAK": "1", "MEMLEAK_MODE": mode, "MEMLEAK_DIR": str(places.recordings), **more}
        if door == "preload":
            variables["LD_PRELOAD"] = str(places.core)
        return Way(variables)

    return way


def preloaded(library: Callable[[], Path], **variables: str) -> Callable[[Places], Way]:
    """Return the way of an allocator or tool that is a library."""
    return lambda _: Way({"LD_PRELOAD": str(library()), **variables})


def script(*words: str) -> Callable[[Places], Way]:
    """Return the way of a tool that is started by Python."""
    return lambda _: Way({}, python_words=words)


def ddtrace(_: Places, **more: str) -> Way:
    """Return the way of ddtrace's memory profiler alone: nothing leaves the machine, and at most a closed port is asked."""
    closed = {"DD_TRACE_AGENT_URL": "http://127.0.0.1:9", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}
    off = {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_TRACE_ENABLED": "false",
        "DD_CRASHTRACKING_ENABLED": "false",
    }
    return Way({**closed, **off, **more}, peers.python(), (str(PROGRAMS / "with_ddtrace.py"),))


def tcmalloc() -> Path:
    """Return the library with the sampler."""
    return peers.file_of("libgoogle-perftools4")


BASELINES = (
    Candidate("stock", "the program as it is", BOTH, lambda _: Way({})),
    Candidate("ddtrace-loaded", "ddtrace imported, its profiler not started", (PYTHON,), lambda places: ddtrace(places, BENCH_NOT_STARTED="1")),
    Candidate("jemalloc", "Debian's jemalloc, its profiler off", BOTH, preloaded(peers.jemalloc, MALLOC_CONF="prof:false")),
    Candidate("tcmalloc", "Debian's gperftools tcmalloc, no sampling", BOTH, preloaded(tcmalloc, TCMALLOC_SAMPLE_PARAMETER="0")),
)  # fmt: skip
MEMLEAK = (
    Candidate("memleak-off", "memleak by preload, mode off", BOTH, memleak("off", "preload")),
    Candidate("memleak-normal", "memleak by preload at its defaults: native and Python frames", BOTH, memleak("normal", "preload")),
    Candidate("memleak-native", "the same, native only (MEMLEAK_PYTHON=0)", (PYTHON,), memleak("normal", "preload", MEMLEAK_PYTHON="0")),
    Candidate("memleak-full", "memleak by preload, every allocation", BOTH, memleak("full", "preload")),
    Candidate("memleak-full-native", "the same, native only (MEMLEAK_PYTHON=0)", (PYTHON,), memleak("full", "preload", MEMLEAK_PYTHON="0")),
    Candidate("memleak-import-off", "memleak by MEMLEAK=1 alone, mode off", (PYTHON,), memleak("off", "import")),
    Candidate("memleak-import-normal", "memleak by MEMLEAK=1 alone, at its defaults", (PYTHON,), memleak("normal", "import")),
    Candidate("memleak-import-native", "the same, native only (MEMLEAK_PYTHON=0)", (PYTHON,), memleak("normal", "import", MEMLEAK_PYTHON="0")),
    Candidate("memleak-import-full", "memleak by MEMLEAK=1 alone, every allocation", (PYTHON,), memleak("full", "import")),
)  # fmt: skip
MEMRAY = ("-m", "memray", "run", "-q", "-f", "-o", "DIRECTORY/memray.bin")
OTHERS = (
    Candidate("memray", "memray run, defaults: every allocation, Python frames", (PYTHON,), script(*MEMRAY)),
    Candidate("memray-native", "memray run --native", (PYTHON,), script(*MEMRAY, "--native")),
    Candidate("tracemalloc-1", "python -X tracemalloc=1", (PYTHON,), script("-X", "tracemalloc=1")),
    Candidate("tracemalloc-25", "python -X tracemalloc=25", (PYTHON,), script("-X", "tracemalloc=25")),
    Candidate("ddtrace", "ddtrace's memory profiler alone, its default sample size, nothing exported", (PYTHON,), ddtrace, "ddtrace-loaded"),
    Candidate("jemalloc-prof", "prof:true,prof_active:true at jemalloc's default rate, 512 KiB", BOTH, preloaded(peers.jemalloc, MALLOC_CONF="prof:true,prof_active:true"), "jemalloc"),
    Candidate("jemalloc-prof-dense", "the same each 8 KiB: as many samples as memleak of blocks of 64 bytes", (NATIVE,), preloaded(peers.jemalloc, MALLOC_CONF="prof:true,prof_active:true,lg_prof_sample:13"), "jemalloc"),
    Candidate("tcmalloc-sample", "TCMALLOC_SAMPLE_PARAMETER=524288", BOTH, preloaded(tcmalloc, TCMALLOC_SAMPLE_PARAMETER="524288"), "tcmalloc"),
    Candidate("tcmalloc-sample-dense", "the same each 8 KiB: as many samples as memleak of blocks of 64 bytes", (NATIVE,), preloaded(tcmalloc, TCMALLOC_SAMPLE_PARAMETER="8192"), "tcmalloc"),
    Candidate("heaptrack", "heaptrack's recorder, raw data to a file, not interpreted", BOTH, preloaded(lambda: peers.file_of("heaptrack"), DUMP_HEAPTRACK_OUTPUT="DIRECTORY/heaptrack.raw")),
)  # fmt: skip
CANDIDATES = {candidate.name: candidate for candidate in (*BASELINES, *MEMLEAK, *OTHERS)}
# What is compared with a baseline.
COMPARED = tuple(candidate.name for candidate in (*MEMLEAK, *OTHERS))
