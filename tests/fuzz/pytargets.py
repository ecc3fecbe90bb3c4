"""What is fuzzed of the package: each target reads what it makes of a fuzzer's input, by the rule of `rule.py`."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "builders"), str(TESTS / "fuzz")]

import editing  # noqa: E402
from compression import compressed  # noqa: E402
from dwarfcases import CASES  # noqa: E402
from elfwriter import ElfSymbol, write_elf  # noqa: E402
from recordingwriter import RecordingWriter, word  # noqa: E402

from memleak import cli, layout, linkmaps, loaded, query, recording  # noqa: E402
from memleak.cli import program  # noqa: E402
from memleak.errors import QueryError  # noqa: E402
from memleak.pylines import LineTable  # noqa: E402
from memleak.records import version_name  # noqa: E402
from memleak.symbolize import Symbolizer, answers  # noqa: E402
from memleak.symbolize.answers import AnswerFrame  # noqa: E402
from memleak.symbolize.demangle import rust_legacy  # noqa: E402

# ---- files -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_of(content: bytes, mode: int = 0o600) -> Iterator[str]:
    """Give *content* a path, without a file system."""
    fd = os.memfd_create("input", 0)
    try:
        os.write(fd, content)
        os.fchmod(fd, mode)
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Print nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


# ---- recordings --------------------------------------------------------------------------------------


def _recording(**options: object) -> bytes:
    """A recording with something of everything."""
    writer = RecordingWriter(counters={"samples": 12, "lost": 2}, **options)
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    lib = writer.module("/usr/lib/libpython3.so", build_id=b"\x02" * 20, coverage=2, slots=(3, 1), holder=1)
    thread = writer.thread(4711, b"worker", samples=9)
    history = writer.history({(0, 14): (15 << 40) | 900, (1, 3): (4 << 40) | 700})
    code = writer.code("/srv/app.py", "f", first_line=10, table=b"\x80\x05\xe1\0\0\xf8\xe8\x07\xf0\x42\1\0\1\1")
    module = writer.code("/srv/app.py", "<module>", kind=1, table=b"\x04\x01\xff\x7f" * 9)
    python = writer.python_stack([(code, 4), (code, 8, True), (module, 300, True), (0, 2, True)])
    first = writer.row([(app, 16), (lib, 32, True)], samples=9, count=99.5, bytes=6400, history=history, python=python)
    second = writer.row([(lib, 48)], domain=2, truncated=True, peak=99)
    overflow = writer.row((), domain=1, flags=1, samples=1)
    for row, size in ((first, 64), (first, 640), (second, 1 << 20), (overflow, 10)):
        writer.live(row, size=size, weight=4.5, thread=thread)
    return writer.bytes()


@lru_cache(maxsize=1)
def recordings() -> tuple[bytes, ...]:
    """A real one and written ones: sampled, in full, of Python."""
    real = gzip.decompress((TESTS / "data/format-1.mlrec.gz").read_bytes())
    python = {"python_version": 0x030C01F0, "python_state": layout.PYTHON_FRAMES, "door": 2}
    return real, _recording(), _recording(initial=word(1, 1), stopped_at_cs=50, state=2), _recording(**python)


def _full_of_business(**options: object) -> bytes:
    """A recording with what a program told of itself and what was noted meanwhile: labels, pools, gauges, the ledger."""
    options = {"heartbeat_cs": 60_000, "focus": ("module=app", "module=app", 9), "limit": (1, 500, 1 << 30, 900 << 20, 800 << 20), **options}
    writer = RecordingWriter(counters={"samples": 90, "mismatches": 3}, label_state=1, **options)
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    client = writer.module("/usr/lib/libmariadb.so.3", build_id=b"\x02" * 20)
    thread = writer.thread(4711, b"worker", samples=9)
    code = writer.code("/srv/app.py", "f", first_line=10, table=b"\x80\x05\xe1\0\0\xf8\xe8\x07\xf0\x42\1\0\1\1")
    python = writer.python_stack([(code, 4), (code, 8, True)])
    texts = ("ok", "ValueError", "running")
    writer.labels({n: f"endpoint=/pay\nsql=7\noutcome={text}" for n, text in enumerate(texts, 1)}, {1: 900, 2: 40})
    first, second = writer.pool(b"buddy", regions=2, capacity=30_000, ended=3), writer.pool(b"arena")
    near, far = writer.pool_region(first, 10_000), writer.pool_region(first, 20_000)
    history = writer.history({(0, 14): (15 << 40) | 900, (1, 3): (4 << 40) | 700, (2, 9): (10 << 40) | 80_000})
    rows = [
        writer.row([(app, 16), (client, 32)], samples=30, count=300.5, bytes=90_000, history=history, python=python, label_set=n)
        for n in (0, 1, 2, 3)
    ]
    pooled = writer.row([(app, 64)], domain=128 + first, samples=9)
    for row in rows:
        for born_cs in range(900, 59_000, 9_000):
            writer.live(row, size=640, weight=9.5, born_cs=born_cs, thread=thread)
    for region in (near, far, 77):
        writer.live(pooled, size=500, weight=2.0, layer=4, thread=thread | first << 12 | region << 19)
    writer.live(0, size=9, weight=0, layer=11, thread=first << 12 | near << 19)
    stub = app << 48 | 1 << 47 | 0x99
    for kind in range(1, 9):
        writer.mismatch(kind, rows[0], [(app, 96), (app, 97)], python=python, freed_pool=second, thread=thread, freed=32, target=stub)
    writer.mismatch(6, rows[1], [(app, 96)], state=1)
    business = {(0, 2): (15 << 40) | 30, (0, 7): (8 << 40) | 8, (1, 3): (4 << 40) | 20, (2, 0): (1 << 40) | 3}
    writer.gauge("open_tables", 30, first_cs=900, set_cs=59_000, changed_cs=58_000, history=business, tick=14)
    writer.gauge("tenants", -7, history={(0, 3): (4 << 40) | (1 << 39) | 5})
    writer.gauge("tenants", 9, order=0)
    writer.gauge("claimed", 1, state=1)
    for cs in range(1_000, 60_000, 9_000):
        writer.look(cs=cs, anonymous_bytes=cs << 12, file_bytes=6 << 20, native_bytes=19 << 20, heap_state=1, heap_cs=cs,
                    heap_bytes=200 << 20, heap_used_bytes=20 << 20, heap_free_bytes=180 << 20, own_bytes=3 << 20)  # fmt: skip
    writer.look(cs=59_500, again=0)
    writer.pins([(row, 9_000, 40_960) for row in rows], regions=50, sparse=40, live=19 << 20, occupied=60 << 20)
    writer.mark(95, [(row, 64_000) for row in rows], cs=50_000, limit=1 << 30, used=1 << 29)
    return writer.bytes()


@lru_cache(maxsize=1)
def segments() -> tuple[bytes, ...]:
    """Of a native program, of Python in full, and of a program that told of itself too little for an answer."""
    few = RecordingWriter()
    few.gauge("never", 5, first_cs=0)
    few.mismatch(7, few.row([(few.module("/opt/app", main=True), 16)], domain=2), [(1, 32)])
    few.look(cs=900, anonymous_bytes=9 << 20)
    python = {"python_version": 0x030C01F0, "python_state": layout.PYTHON_FRAMES, "door": 2, "initial": word(1, 1)}
    return _full_of_business(), _full_of_business(**python), few.bytes()


def fuzz_segments(data: bytes) -> None:
    """Ask what a program told of itself, and what was noted of it meanwhile."""
    snapshot = query.Snapshot(recording.parse(editing.edited(data, segments())))
    for use in snapshot.pools():
        assert use.est_bytes >= 0 <= use.capacity_bytes and (use.idle_share is None or 0 <= use.idle_share <= 1)
    for one in snapshot.mismatches(undecided=True):
        assert one.kind
    gauges = snapshot.gauges()
    for ask in (
        lambda: snapshot.scaling(what_if={gauges[0].name: 1 << 40} if gauges else None),
        lambda: snapshot.ledger(pid=0),
        lambda: snapshot.evidence(by="grown"),
    ):
        with contextlib.suppress(QueryError):
            ask()
    for row, live, pinned in snapshot.pinners():
        assert len(row.values()) == len(row.columns()) and live >= 0 <= pinned
    snapshot.verdicts()
    snapshot.per_call()
    snapshot.materialised()
    snapshot.threads()
    snapshot.footer()
    assert all(calls >= 0 for calls in snapshot.calls.values())


def fuzz_recording(data: bytes) -> None:
    """Read a recording and ask it everything."""
    with file_of(editing.edited(data, recordings())) as path:
        found = recording.load(path)
    for sample in found.live:
        assert found.row_of(sample) is not None and found.thread(sample[4]) is found.thread(sample[4])
    version_name(found.header.python_version)
    snapshot = query.Snapshot(found)
    for group_by in (None, "stack", "module", "python_line", "thread", "mod_name"):
        for row in snapshot.top(5, group_by=group_by):
            assert row.est_bytes >= 0 and len(row.values()) == len(row.columns())
    snapshot.top(3, by="peak_bytes", side="native")
    snapshot.footer()
    snapshot.sql("SELECT mod_name, sum(est_bytes), count(*) FROM malloc_sample_info GROUP BY 1")
    snapshot.sql("SELECT * FROM frames")
    snapshot.diff(snapshot)


VERBS = (
    ["top", "--no-symbols"],
    ["top", "--no-symbols", "--json", "--group-by", "python_function"],
    ["status"],
    ["status", "--json"],
    ["sql", "--json", "SELECT * FROM malloc_sample_info"],
    ["symbolize", "--sysroot", "/nowhere"],
    ["pools", "--no-symbols"],
    ["mismatches", "--all", "--sysroot", "/nowhere"],
    ["ledger", "--recorded", "--history", "--no-symbols"],
    ["gauge", "--per-unit", "--json"],
    ["verdict", "--all", "--no-symbols"],
    ["verdict", "--json", "--no-symbols"],
    ["threads", "--no-symbols"],
    ["postmortem", "--no-symbols"],
)


def fuzz_verbs(data: bytes) -> None:
    """What a verb prints of a recording."""
    words = VERBS[data[0] % len(VERBS)] if data else VERBS[0]
    with file_of(editing.edited(data[1:], (*recordings(), *segments()))) as path, silent():
        assert cli.main([words[0], path, *words[1:]]) in (0, 1, *([3] if words[0] == "verdict" else []))


def fuzz_sql(data: bytes) -> None:
    """Any statement over a small recording."""
    statement = editing.edited(data, STATEMENTS).decode("utf-8", "surrogateescape")
    from memleak.sql import run

    run(_snapshot(), statement, timeout_s=1, rows_most=10_000)


@lru_cache(maxsize=1)
def _snapshot() -> query.Snapshot:
    return query.Snapshot(recording.parse(recordings()[1]))


STATEMENTS = (
    b"SELECT mod_name, sum(est_bytes) FROM malloc_sample_info GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    b"SELECT s.native_trace, f.* FROM malloc_sample_info s JOIN frames f USING (stack_id)",
    b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT i, hex(i), printf('%08d', i) FROM n",
    b"SELECT group_concat(backtrace, char(10)), upper(quote(pid)), replace(host, 'a', 'bb') FROM __all_virtual_malloc_sample_info",
    b"PRAGMA table_info(malloc_sample_info); DROP TABLE malloc_sample_info",
)

# ---- line tables -------------------------------------------------------------------------------------


def fuzz_pylines(data: bytes) -> None:
    """Form, first line, whether it is cut, a question, and the table."""
    if len(data) < 10:
        return
    kind, cut, first_line, offset = struct.unpack_from("<BBiI", data)
    line = LineTable(kind % 5, data[10:], first_line, cut=bool(cut & 1)).line(offset)
    assert line is None or 0 <= line < 1 << 31


# ---- ELF files ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def elf_files() -> tuple[bytes, ...]:
    """Small files with everything that is looked for in one, and a real library's beginning."""
    import lzma

    label = ElfSymbol("label", 0x1040, size=0, kind="notype")
    names = [ElfSymbol("main", 0x1000), ElfSymbol("_ZN3foo3barEv", 0x1020), label]
    dynamic = [ElfSymbol("malloc", 0x1010), ElfSymbol("old", 0x1030, old_version=True)]
    embedded = lzma.compress(write_elf(symbols=[ElfSymbol("hidden", 0x1060)]))
    options = {"build_id": b"\x01" * 20, "debuglink": ("app.debug", 1), "text": bytes(256)}
    full = write_elf(symbols=names, dynamic_symbols=dynamic, **options)
    return (
        full,
        write_elf(symbols=names, dynamic_symbols=dynamic, bits=32, little_endian=False, **options),
        write_elf(dynamic_symbols=dynamic, sections={".gnu_debugdata": embedded}, **options),
        write_elf(symbols=names, section_table=False, **options),
        write_elf(symbols=names, sections={".debug_info": b"x" * 30, ".debug_line": b"y" * 30}, **options),
        _small_library(),
    )


def _small_library() -> bytes:
    """The C library of the machine is too large; a small one beside it has hash tables, too."""
    for name in ("libdl.so.2", "libutil.so.1", "librt.so.1"):
        for directory in ("/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"):
            path = Path(directory, name)
            if path.exists() and path.stat().st_size < 100_000:
                return path.read_bytes()
    return write_elf(symbols=[ElfSymbol("main", 0x1000)])


def fuzz_elf(data: bytes) -> None:
    """Name addresses of a file that is damaged; lines are another program's business."""
    with file_of(editing.edited(data, elf_files())) as path:
        symbolizer = Symbolizer(engine="none", debug_dirs=["/nowhere"])
        for build_id in (None, "01" * 20):
            for address in (0, 0x1005, 0x1062, (1 << 64) - 1):
                assert symbolizer.frames(path, build_id, address)
        symbolizer.problems()


@lru_cache(maxsize=1)
def debug_files() -> tuple[bytes, ...]:
    """Small files with debug information, plain and packed."""
    names = ("all_versions_and_formats_in_one_file", "calls_in_pieces_and_side_by_side", "every_kind_of_range_of_dwarf_5")
    names += ("files_of_dwarf_5", "a_split_unit_of_dwarf_5", "what_dwz_shares_between_files", "addresses_of_four_bytes")
    made = [CASES[name]() for name in names]
    found = [case.elf() for case in made]
    for how in ("zlib", "zlib-gnu", "zstd"):
        sections, flags = compressed(made[0].file.sections(), how)
        found.append(write_elf(sections=sections, section_flags=flags))
    return tuple(found)


def fuzz_debuginfo(data: bytes) -> None:
    """Find files, lines and functions in a file that is damaged; what cannot be read is a problem that is told."""
    with file_of(editing.edited(data, debug_files())) as path, Symbolizer(engine="memleak") as symbolizer:
        asked = [(path, None, address, True) for address in range(0x0FF8, 0x1088, 4)]
        assert all(symbolizer.resolve(asked))
        symbolizer.problems()


def fuzz_loaded(data: bytes) -> None:
    """Look for an allocator in an object's file, as doctor does."""
    with file_of(editing.edited(data, elf_files())) as path:
        found = loaded.LoadedObject(path, "", False, 4096, 0, False)
        assert set(loaded.allocators_in(os.getpid(), found)) <= set(loaded.ALLOCATORS)


def fuzz_program(data: bytes) -> None:
    """Tell whether the core can be brought into a program."""
    with file_of(editing.edited(data, (*elf_files(), *SCRIPTS)), mode=0o700) as path:
        program.obstacle(path, sys.executable)


SCRIPTS = (b"#!/bin/sh\necho\n", b"#! /usr/bin/env python3\n", b"#!/proc/self/exe a b\n")


def fuzz_names(data: bytes) -> None:
    """Names of Rust's first scheme."""
    name = editing.edited(data, NAMES).decode("utf-8", "backslashreplace")
    readable = rust_legacy(name)
    assert readable is None or len(readable) < 2 * len(name)


NAMES = (b"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", b"_ZN9_$LT$T$GT$3foo17h0123456789abcdefE.llvm.1")

# ---- names that are kept and sent along ---------------------------------------------------------------


@lru_cache(maxsize=1)
def tables() -> tuple[bytes, ...]:
    """Tables of answers: few that share much, and many."""
    inner, outer = AnswerFrame("inner", "a.h", 3, True, 2), AnswerFrame("outer", "a.c", 30, False, 0)
    few = {0x100F: (inner, outer), 0x101F: (outer,), 0x1030: (AnswerFrame(None, None, None, False, 0),), 0x1040: ()}
    many = {address: (AnswerFrame(f"f{address}", "\udcff.c", address, False, 0), outer) for address in range(1, 200)}
    return answers.build(few).pack(), answers.build(many).pack()


def fuzz_answers(data: bytes) -> None:
    """Find addresses in a table, and add to it."""
    content = editing.edited(data, tables())
    with contextlib.suppress(answers.TableError):
        table = answers.from_bytes(content)
        for address in (0, 0x100F, 0x1030, *table.addresses[:50]):
            with contextlib.suppress(answers.TableError):
                table.find(address)
        merged = answers.merge(table.parts(), answers.from_bytes(tables()[0]).parts())
        answers.from_bytes(merged.pack()).find(0x101F)


@lru_cache(maxsize=1)
def members() -> tuple[tuple[str, bytes], ...]:
    """What a bundle holds."""
    modules = [
        {"path": path, "build_id": build_id, "lines": True, "addresses": 2, "symbols": "symbols/0", "problem": problem}
        for path, build_id, problem in (("/opt/app", "01" * 20, None), ("/usr/lib/libpython3.so", "02" * 20, "why"))
    ]
    members = [{"member": "recordings/0.mlrec", "running": False}]
    manifest = {"format": 1, "made_by": "a test", "recordings": members, "modules": modules}
    return (
        ("manifest.json", json.dumps(manifest).encode()), ("recordings/0.mlrec", recordings()[1]),
        ("symbols/0", tables()[0]),
    )  # fmt: skip


def _packed(content: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in content:
            archive.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def fuzz_bundle(data: bytes) -> None:
    """Read a bundle that is damaged as a whole, or whose parts were and have sound checksums."""
    whole = data[:1] < b"\x80"
    if whole:
        content = editing.edited(data[1:], (_packed(members()),))
    else:
        chosen = data[0] % len(members())
        content = _packed(
            (name, editing.edited(data[1:], (part,)) if number == chosen else part)
            for number, (name, part) in enumerate(members())
        )
    with file_of(content) as path:
        snapshot = query.open(path)
        for row in snapshot.rows():
            assert row.est_bytes >= 0 and len(row.values()) == len(row.columns())
        snapshot.symbol_problems()



# ---- another process's memory --------------------------------------------------------------------------


@lru_cache(maxsize=1)
def memories() -> tuple[bytes, ...]:
    """The loader's lists: program headers at 4096, the dynamic section, r_debug of two namespaces, three objects."""
    memory = bytearray(12_288)
    struct.pack_into("<IIQQQQQQ", memory, 4096, 6, 4, 64, 4096, 4096, 112, 112, 8)
    struct.pack_into("<IIQQQQQQ", memory, 4152, 2, 4, 512, 4608, 4608, 64, 64, 8)
    struct.pack_into("<QQQQ", memory, 4608, 5, 1, 21, 5000)
    struct.pack_into("<i4xQQQQQ", memory, 5000, 2, 5200, 0, 0, 0, 5100)
    struct.pack_into("<i4xQQQQQ", memory, 5100, 2, 5300, 0, 0, 0, 0)
    for at, name, following in ((5200, 6000, 5240), (5240, 6016, 0), (5300, 6032, 0)):
        struct.pack_into("<QQQQ", memory, at, 4096, name, 4608, following)
    memory[6000:6040] = b"\0" * 16 + b"/lib/libc.so.6\0\0" + b"/lib/a.so"[:8]
    return (bytes(memory),)


def fuzz_linkmaps(data: bytes) -> None:
    """Follow the loader's lists in memory that may hold anything."""
    fd = os.memfd_create("memory", 0)
    try:
        os.write(fd, editing.edited(data, memories()))
        linkmaps.follow(fd, {3: 4096, 5: 2})
    finally:
        os.close(fd)


TARGETS: dict[str, Callable[[bytes], None]] = {
    name.removeprefix("fuzz_"): function for name, function in list(globals().items()) if name.startswith("fuzz_")
}
