"""What libmemleak.so exports, needs and keeps per thread, as readelf sees it."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

# Everything a program can see of us. A name outside this list could take the place of the program's.
MALLOC_FAMILY = {
    "malloc", "calloc", "realloc", "reallocarray", "free", "posix_memalign", "aligned_alloc", "memalign",
    "valloc", "pvalloc", "malloc_usable_size",
}  # fmt: skip
MAPPING_FAMILY = {"mmap", "mmap64", "munmap", "mremap"}
NOTICED = {"dlclose", "pthread_create"}
FORBIDDEN_UNDEFINED = [
    r"pthread_mutex\w*", r"pthread_spin\w*", r"pthread_rwlock\w*", r"pthread_once",
    r"malloc", r"calloc", r"realloc", r"free", r"strdup", r"getline",
    r"\w*printf\w*", r"\w*scanf\w*", r"f(open|close|read|write|puts|flush)\w*", r"puts", r"perror", r"syslog",
    r"__tls_get_addr", r"Py\w+", r"_Py\w+", r"unw_\w+", r"_ULx\w+", r"backtrace\w*", r"__cxa_\w+throw\w*",
]  # fmt: skip
ALLOWED_NEEDED = {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libdl.so.2", "libpthread.so.0"}
TLS_BYTES_MOST = 64


def readelf(path: str, *options: str) -> str:
    """Return what readelf prints in full lines and in English."""
    return subprocess.run(
        ["readelf", "-W", *options, path],
        check=True,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    ).stdout


@pytest.fixture(scope="module")
def symbols(core_path: str) -> list[tuple[str, bool]]:
    """Return (name, defined) of each dynamic symbol."""
    found = []
    for line in readelf(core_path, "--dyn-syms").splitlines():
        words = line.split()
        if len(words) >= 8 and words[0].rstrip(":").isdigit():
            found.append((words[7].split("@")[0], words[6] != "UND"))
    return found


def test_exports_only_the_allowed_names(symbols):
    """Nothing but the hooks and the C API is visible to the program."""
    exported = {name for name, defined in symbols if defined}
    unexpected = {name for name in exported if not name.startswith("memleak_")}
    assert unexpected - MALLOC_FAMILY - MAPPING_FAMILY - NOTICED == set()


def test_exports_the_malloc_family_whole(symbols):
    """A family hooked in part would free what it never saw allocated."""
    exported = {name for name, defined in symbols if defined}
    assert MALLOC_FAMILY - exported == set()
    assert {"mmap", "munmap", "mremap"} - exported == set()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another architecture")
def test_hooks_are_targets_of_indirect_calls(core_path):
    """Each begins with endbr64: a processor that enforces control flow (CET) lets slots lead to no other place."""
    code = Path(core_path).read_bytes()
    begins = {}
    for line in readelf(core_path, "--dyn-syms").splitlines():
        words = line.split()
        if len(words) >= 8 and words[3] == "FUNC" and words[6] != "UND":
            begins[words[7]] = code[(at := int(words[1], 16)) : at + 4]  # the text's addresses are its offsets
    assert MALLOC_FAMILY <= begins.keys()
    assert {name for name, start in begins.items() if start != b"\xf3\x0f\x1e\xfa"} == set()


def test_needs_no_lock_no_allocator_no_stdio(symbols):
    """Hook code that cannot name a mutex, malloc or printf cannot wait for one."""
    undefined = {name for name, defined in symbols if not defined}
    forbidden = [name for name in undefined if any(re.fullmatch(p, name) for p in FORBIDDEN_UNDEFINED)]
    assert forbidden == []


def test_thread_local_storage_is_small_and_static(core_path):
    """At most 64 bytes, reached without __tls_get_addr: it has to fit into a late dlopen."""
    for line in readelf(core_path, "-l").splitlines():
        words = line.split()
        if words and words[0] == "TLS":
            assert int(words[5], 16) <= TLS_BYTES_MOST
    dynamic = readelf(core_path, "-r")
    assert "DTPMOD" not in dynamic
    assert "TLSDESC" not in dynamic


def test_is_never_unloaded_and_bound_at_start(core_path):
    """NODELETE, NOW, RELRO, a build id and our SONAME."""
    dynamic = readelf(core_path, "-d")
    assert "NODELETE" in dynamic
    assert re.search(r"FLAGS_1.*\bNOW\b", dynamic)
    assert "[libmemleak.so]" in dynamic
    assert "GNU_RELRO" in readelf(core_path, "-l")
    assert re.search(r"Build ID: [0-9a-f]{40}", readelf(core_path, "-n"))
    assert "GNU_HASH" in dynamic


def test_needs_only_libc(core_path):
    """No libpython, no libm, no libunwind: one core for every program."""
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", readelf(core_path, "-d")))
    assert needed - ALLOWED_NEEDED == set()


def test_module_links_to_the_core_beside_it(core_path):
    """The cffi module never contains the core; it finds it by $ORIGIN."""
    from memleak import _memleak_ffi

    dynamic = readelf(_memleak_ffi.__file__, "-d")
    assert "[libmemleak.so]" in dynamic
    assert re.search(r"RUNPATH.*\[\$ORIGIN\]", dynamic)
    exported = readelf(_memleak_ffi.__file__, "--dyn-syms")
    assert not re.search(r"\b(?!UND)\w+\s+memleak_recording_path$", exported.replace("UND ", "UND\t"))
