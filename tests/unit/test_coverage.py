"""Coverage: what a recording says of its objects, and what /proc adds while the process runs."""

import gzip
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from recordingwriter import RecordingWriter
from tracedprocess import traced_process

from memleak import coverage, layout, linkmaps, loaded, recording
from memleak.coverage import Coverage, OutOfReach

CORE, VDSO = 2, 4
GOLDEN = Path(__file__).resolve().parent.parent / "data/format-1.mlrec.gz"


def parsed(writer):
    return recording.parse(writer.bytes(), "r")


def by_name(found):
    """The reason of each object out of reach, by its file's name."""
    return {os.path.basename(each.path): each.reason for each in found.out_of_reach}


# ---- what a recording says ---------------------------------------------------------------------------


def every_kind():
    """A recording with an object of each coverage."""
    writer = RecordingWriter()
    writer.module("/opt/app", main=True, coverage=1, slots=(7, 0))
    writer.module("/usr/lib/libquiet.so", coverage=2)
    other = writer.module("/usr/lib/libjemalloc.so.2", coverage=3, vaddr_high=0x30000)
    writer.module("/opt/libdeep.so", coverage=4, slots=(0, 5), holder=other, vaddr_high=0x140000)
    writer.module("/opt/libtraced.so", coverage=5, slots=(1, 2), holder=99, vaddr_high=0x2000)
    writer.module("/opt/libsealed.so", coverage=6, slots=(0, 4), vaddr_high=0x1000)
    writer.module("/opt/liblazy.so", coverage=7, slots=(3, 1), vaddr_high=0x1000)
    writer.module("/opt/libgone.so", coverage=8, slots=(0, 9))
    writer.module("/opt/liblater.so", coverage=77, vaddr_high=0)
    writer.module("/opt/libfresh.so")
    writer.module("/opt/libmemleak.so", coverage=6, flags=CORE)
    writer.module("linux-vdso.so.1", coverage=6, flags=VDSO)
    writer.module("/opt/libtorn.so", coverage=4, state=1)
    writer.live(writer.row([(1, 0x10)]), size=1 << 20, weight=2)
    return writer


def test_every_coverage_has_its_place():
    """Hooked, idle, out of reach by size, not looked at; the core, the vdso and the unloaded are left out."""
    found = coverage.of(parsed(every_kind()))
    assert found.known and found.hooked == 1 and found.objects == 8
    assert found.out_of_reach == (
        OutOfReach("/opt/libdeep.so", "other_allocator", "/usr/lib/libjemalloc.so.2", 0, 5, 0x140000),
        OutOfReach("/usr/lib/libjemalloc.so.2", "allocator", None, 0, 0, 0x30000),
        OutOfReach("/opt/libtraced.so", "other_tool", None, 1, 2, 0x2000),
        OutOfReach("/opt/liblazy.so", "unbound", None, 3, 1, 0x1000),
        OutOfReach("/opt/libsealed.so", "protected", None, 0, 4, 0x1000),
        OutOfReach("/opt/liblater.so", "coverage 77", None, 0, 0, 0),
    )
    assert found.not_looked_at == ("/opt/libfresh.so",)
    assert (found.estimated_live_bytes, found.anonymous_bytes) == (2 << 20, None)


def test_every_reason_of_the_format_has_words():
    """Whatever the header calls out of reach is explained."""
    in_reach = {"UNKNOWN", "HOOKED", "NONE", "GONE"}
    codes = {name[9:]: value for name, value in vars(layout).items() if name.startswith("COVERAGE_")}
    assert len(codes) == 9
    for name, code in codes.items():
        if name not in in_reach:
            writer = RecordingWriter()
            writer.module("/opt/libx.so", coverage=code)
            (found,) = coverage.of(parsed(writer)).out_of_reach
            assert "later memleak" not in str(found) and "coverage" not in found.brief, name


def test_text():
    """A line for the sums, one for each object with its size and the reason in plain words."""
    lines = coverage.of(parsed(every_kind())).text().splitlines()
    assert lines == [
        "1 of 7 allocating objects; 1 not looked at yet; estimated live 2.0 MiB",
        "/opt/libdeep.so (1.2 MiB mapped): bound to another allocator (RTLD_DEEPBIND): libjemalloc.so.2",
        "/usr/lib/libjemalloc.so.2 (192.0 KiB mapped): an allocator of its own, not the one the process uses",
        "/opt/libtraced.so (8.0 KiB mapped): another tracer's hooks are in place; 1 of 3 addresses it calls are hooked",
        "/opt/liblazy.so (4.0 KiB mapped): the loader has not yet bound its calls, and has several allocators to choose"
        " from; 3 of 4 addresses it calls are hooked",
        "/opt/libsealed.so (4.0 KiB mapped): the kernel refused to change the protection of the addresses it calls",
        "/opt/liblater.so (0 B mapped): coverage 77, which a later memleak explains",
        "not looked at yet: /opt/libfresh.so",
    ]


@pytest.mark.parametrize("writer", ["early core", "golden"])
def test_recording_of_an_early_core_says_nothing(writer):
    """Zero in the reserved words is not a finding."""
    early = RecordingWriter()
    early.module("/opt/app", main=True)
    raw = early.bytes() if writer == "early core" else gzip.decompress(GOLDEN.read_bytes())
    found = recording.parse(raw)
    assert found.header.door_name == "unknown"
    assert all(module.coverage == layout.COVERAGE_UNKNOWN for module in found.modules)
    seen = coverage.of(found)
    assert (seen.known, seen.objects, seen.out_of_reach) == (False, 0, ())
    assert seen.not_looked_at
    assert coverage.sentence([seen]) == ""
    assert seen.text().startswith("it was not recorded which objects are hooked; estimated live ")
    assert seen.text().count("\n") == 0


@pytest.mark.parametrize(("door", "name"), [(0, "unknown"), (1, "preload"), (2, "import"), (9, "door 9")])
def test_door(door, name):
    """How the core came in."""
    assert parsed(RecordingWriter(door=door)).header.door_name == name


def out(path, size, reason="other_allocator"):
    return OutOfReach(path, reason, None, 0, 1, size)


def part(hooked, *objects, waiting=(), known=True):
    return Coverage(known, hooked + len(objects), hooked, objects, tuple(waiting), 0, None)


def test_sentence_names_the_largest():
    """One line, however much is out of reach."""
    assert coverage.sentence([part(60)]) == "60 of 60 allocating objects"
    one = part(59, out("/opt/libfoo.so", 1258291))
    expected = "59 of 60 allocating objects; out of reach: libfoo.so (1.2 MiB, RTLD_DEEPBIND)"
    assert coverage.sentence([one]) == expected
    many = part(1, *(out(f"/l{number}", 4096 * number, "namespace") for number in range(1, 6)), waiting=["/x"])
    assert coverage.sentence([many]) == (
        "1 of 6 allocating objects; out of reach: l5 (20.0 KiB, dlmopen), l4 (16.0 KiB, dlmopen),"
        " l3 (12.0 KiB, dlmopen) and 2 more; 1 not looked at yet"
    )


def test_sentence_of_several_recordings():
    """Objects are added up; the same one out of reach in each is named once; who knows nothing does not count."""
    one = part(9, out("/opt/libfoo.so", 1 << 20))
    assert coverage.sentence([one, one, part(0, known=False)]) == (
        "18 of 20 allocating objects in 2 recordings; out of reach: libfoo.so (1.0 MiB, RTLD_DEEPBIND)"
    )
    assert coverage.sentence([]) == ""


# ---- what /proc adds ---------------------------------------------------------------------------------

PLUGIN = """
#include <stdlib.h>
void *plugin(void) { return malloc(10); }
"""
CARRIER = """
#include <stdlib.h>
void *je_malloc(size_t n) { return malloc(n); }
"""
INTERPOSER = """
#include <stdlib.h>
void *malloc(size_t n) { return calloc(1, n); }
void *mi_malloc(size_t n) { return calloc(1, n); }
"""
HOST = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
static void map(const char *path, int protection)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0 || mmap(NULL, 4096, protection, MAP_PRIVATE, fd, 0) == MAP_FAILED)
        exit(3);
    close(fd);
}
int main(int count, char **word)
{
    (void)count;
    if (!dlmopen(LM_ID_NEWLM, word[1], RTLD_NOW)) return 1;
    for (int i = 2; i < 5; i++)
        if (!dlopen(word[i], RTLD_NOW)) return 2;
    // None of these is loaded: no false alarm.
    map(word[5], PROT_READ | PROT_EXEC);
    map(word[6], PROT_READ | PROT_EXEC);
    unlink(word[6]);
    map(word[2], PROT_READ);
    int fd = memfd_create("jit", 0);
    if (ftruncate(fd, 8192) || mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) == MAP_FAILED) return 4;
    puts("ready");
    fflush(stdout);
    getchar();
    return 0;
}
"""


@pytest.fixture(scope="module")
def host(compiled, tmp_path_factory):
    """A process with a plugin in a namespace of its own, a carrier of an allocator, and much that is mapped only."""
    shared = ("-shared", "-fPIC", "-fno-builtin")
    plugin = compiled(PLUGIN, *shared, name="libplugin.so")
    carrier = compiled(CARRIER, *shared, name="libcarrier.so")
    interposer = compiled(INTERPOSER, *shared, name="libinterposer.so")
    late = compiled(PLUGIN, *shared, name="liblate.so")
    binary = compiled(HOST, "-ldl", name="host")
    place = tmp_path_factory.mktemp("mapped")
    data, deleted = place / "code.bin", place / "libdeleted.so"
    data.write_bytes(bytes(8192))
    deleted.write_bytes(Path(plugin).read_bytes())
    process = subprocess.Popen(
        [binary, plugin, carrier, interposer, late, data, deleted], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert select.select([process.stdout], [], [], 30)[0] and process.stdout.readline() == b"ready\n", process.poll()
    yield process.pid
    process.stdin.close()
    process.stdout.close()
    process.wait(30)


def recording_of(pid, *, without=(), gone=(), **of):
    """What the core would have written when it last looked: the objects of the program's own namespace, all hooked."""
    writer = RecordingWriter(pid=pid)
    for found in loaded.look(pid).objects:
        name = os.path.basename(found.path)
        if found.namespace == 0 and name not in without:
            code = 8 if name in gone else of.get(name.split(".")[0], 1)
            writer.module(found.name or found.path, main=not found.name, coverage=code, vaddr_high=0x5000)
    writer.module("/opt/memleak/libmemleak.so", flags=CORE)
    return parsed(writer)


def test_running_process(host):
    """The plugin and the libc that came with it, the carrier; nothing that is only mapped."""
    found = coverage.of(recording_of(host), host)
    assert by_name(found) == {
        "libplugin.so": "namespace",
        "libc.so.6": "namespace",
        "libcarrier.so": "own_allocator",
    }
    carrier = next(each for each in found.out_of_reach if each.reason == "own_allocator")
    assert carrier.defines == ("je_malloc",) and carrier.mapped_bytes == 0x5000
    assert str(carrier).endswith("(20.0 KiB mapped): an allocator of its own, statically linked (je_malloc)")
    plugin = next(each for each in found.out_of_reach if each.path.endswith("libplugin.so"))
    assert plugin.mapped_bytes >= 4 * 4096
    assert found.not_looked_at == ()
    # host, libc, ld.so, interposer and late are hooked.
    assert (found.hooked, found.objects) == (5, 8)
    assert found.anonymous_bytes > 4096


def test_object_loaded_after_the_last_look(host):
    """Not looked at yet, whether it is new, came back, or is known by name only; no namespace of its own."""
    for found in (
        coverage.of(recording_of(host, without=["liblate.so"]), host),
        coverage.of(recording_of(host, gone=["liblate.so"]), host),
        coverage.of(recording_of(host, liblate=0), host),
    ):
        assert [os.path.basename(path) for path in found.not_looked_at] == ["liblate.so"]
        assert "liblate.so" not in by_name(found)
        assert (found.hooked, found.objects) == (4, 7)


def test_what_the_core_found_stands(host):
    """An object out of reach by the recording keeps that reason; one that a stack led to is not waiting."""
    plugin = next(each.path for each in loaded.look(host).objects if each.path.endswith("libplugin.so"))
    writer = RecordingWriter(pid=host)
    writer.module(plugin)
    carrier = plugin.replace("plugin", "carrier")
    writer.module(carrier, coverage=6)
    found = coverage.of(parsed(writer), host)
    assert by_name(found)["libcarrier.so"] == "protected"
    assert by_name(found)["libplugin.so"] == "namespace"
    assert plugin not in found.not_looked_at


def test_without_the_loaders_lists(host, monkeypatch):
    """Where its memory may not be read, what is loaded twice is still certain, and the rest is not looked at yet."""
    held = recording_of(host)
    monkeypatch.setattr(linkmaps, "read", lambda pid: None)
    found = coverage.of(held, host)
    assert by_name(found) == {"libc.so.6": "namespace", "libcarrier.so": "own_allocator"}
    assert [os.path.basename(path) for path in found.not_looked_at] == ["libplugin.so"]


def test_before_the_loader_listed_other_namespaces(host, monkeypatch):
    """glibc before 2.35: what is in no list came with what is loaded twice."""
    held = recording_of(host)
    first = linkmaps.read(host)[:1]
    monkeypatch.setattr(linkmaps, "read", lambda pid: first)
    found = coverage.of(held, host)
    assert by_name(found) == {
        "libplugin.so": "namespace",
        "libc.so.6": "namespace",
        "libcarrier.so": "own_allocator",
    }
    assert found.not_looked_at == ()


def test_ordinary_process_has_nothing_out_of_reach():
    """This Python, as if the core had looked at it just now."""
    found = coverage.of(recording_of(os.getpid()), os.getpid())
    assert {each.reason for each in found.out_of_reach} <= {"own_allocator"}  # numpy may carry one
    assert found.not_looked_at == ()
    assert found.hooked > 5


def test_objects_are_known_by_link_and_by_file_name(host):
    """The recording names what was asked for, which may lead through links or another root."""
    writer = RecordingWriter(pid=host)
    for found in loaded.look(host).objects:
        if found.namespace == 0:
            writer.module(f"/elsewhere/{os.path.basename(found.path)}", coverage=1)
    assert coverage.of(parsed(writer), host).not_looked_at == ()


def test_program_that_defines_malloc(compiled):
    """Its own calls lead straight to it; a library that does so stands behind our hooks."""
    main = '#include <stdio.h>\nint main(void) { puts("ready"); fflush(stdout); return getchar() == EOF; }'
    binary = compiled(INTERPOSER + main, "-rdynamic", "-fno-builtin", name="interposing")
    with subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        (found,) = coverage.own_allocators(process.pid)
        assert (found.path, found.defines) == (binary, ("malloc", "mi_malloc"))
        assert by_name(coverage.of(recording_of(process.pid), process.pid)) == {"interposing": "own_allocator"}
        process.stdin.write(b"\n")


def test_process_that_is_gone():
    """What the recording says remains."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert coverage.of(parsed(every_kind()), process.pid) == coverage.of(parsed(every_kind()))
    assert linkmaps.read(process.pid) is None
    with pytest.raises(OSError):
        loaded.look(process.pid)


# ---- doctor -------------------------------------------------------------------------------------------


def recorded_findings(tmp_path, **header):
    from memleak.cli import doctor_process

    with traced_process(tmp_path, **header) as (process, _):
        return [(each.level, each.detail) for each in doctor_process._recording(process.pid, "pid", [], True)]


@pytest.mark.parametrize(("door", "words"), [(1, "preload"), (2, "import")])
def test_doctor_states_door_and_sums(tmp_path, door, words):
    """What runs, how the core came in, and how much of the memory is seen."""
    first, *_, last = recorded_findings(tmp_path, door=door)
    assert first[0] == "ok" and f"mode normal, door {words}" in first[1]
    assert last[0] == "ok"
    assert last[1].startswith(
        "hooks: it was not recorded which objects are hooked; estimated live 0 B, anonymous memory "
    )


def test_doctor_says_that_native_allocations_are_not_sampled(tmp_path):
    """By whose wish."""
    for state in (0, 1):
        details = [detail for level, detail in recorded_findings(tmp_path, native_state=state) if level == "ok"]
        found = [detail for detail in details if detail.startswith("native allocations not sampled")]
        assert len(found) == state and all("MEMLEAK_NATIVE=0" in detail for detail in found)


def test_doctor_names_what_is_out_of_reach():
    """A warning for each object, then the summary."""
    from memleak.cli import doctor_process

    findings = list(doctor_process._coverage(coverage.of(parsed(every_kind())), "pid 7"))
    assert [each.level for each in findings] == ["warn"] * 6 + ["ok"] * 2
    assert findings[0].detail == (
        "out of reach: /opt/libdeep.so (1.2 MiB mapped): bound to another allocator (RTLD_DEEPBIND): libjemalloc.so.2"
    )
    assert findings[-2].detail == "not looked at yet: /opt/libfresh.so"
    assert findings[-1].detail == ("hooks: 1 of 7 allocating objects; 1 not looked at yet; estimated live 2.0 MiB")


def test_doctor_says_how_to_start(host):
    """A program is preloaded; a Python program may also call start()."""
    from memleak.cli import doctor_process

    (found,) = (each for each in doctor_process.process(host) if "not loaded" in each.detail)
    assert "memleak run" in found.detail and "memleak.start()" not in found.detail
    waiting = [sys.executable, "-c", "print('ready', flush=True); input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as python:
        assert python.stdout.readline() == "ready\n"
        (found,) = (each for each in doctor_process.process(python.pid) if "not loaded" in each.detail)
        python.communicate("\n")
    assert "it was started without it" in found.detail and "memleak.start() after import memleak" in found.detail
    outside = [each for each in doctor_process.process(host) if "out of reach" in each.detail]
    assert ["libcarrier.so" in each.detail for each in outside] == [True]
