"""The preload door: no program may notice it, and every family function is seen where it is called."""

from __future__ import annotations

import re
import shutil
import signal

import pytest
from tracing import Functions, Sum, ledger, outcome, run

# ---- the family --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "normal", "off"])
def test_family_behaves_as_the_allocators_own(tracer, program, mode):
    """Results, errno, alignment, usable size, contents, for corner cases of every function."""
    binary = program("family.c", "-Wno-alloc-size-larger-than", "-Wno-use-after-free", "-fno-builtin")
    done = tracer.same(binary, mode=mode)
    assert done.returncode == 0
    assert done.stdout.count("\n") > 80
    if mode == "full":
        assert tracer.only(binary).samples_lost == {}


@pytest.mark.parametrize(
    "flags", [(), ("-no-pie",), ("-Wl,-z,now",), ("-Wl,-z,lazy",), ("-fomit-frame-pointer", "-O2")]
)
def test_innermost_frame_is_the_caller(tracer, program, flags):
    """A backtrace begins in the function that called the family, however it is linked."""
    binary = program("callers.c", "-fno-builtin", *flags, name=f"callers{len(''.join(flags))}")
    done = tracer.run(binary)
    assert Functions(binary).sums(tracer.only(binary), "call_", depth=2) == ledger(done.stdout) | {
        "call_malloc_0": Sum(1, 0)
    }
    for row in tracer.only(binary).rows:
        names = Functions(binary).stack(tracer.only(binary), row)
        if names[-1] == "_start" and row.live.samples and not names[0].startswith(("[", "by_posix_memalign")):
            assert names[0].startswith("call_"), names


def test_backtraces_reach_the_start_of_the_program(tracer, program):
    """Main and _start stand below the caller, with libc in between."""
    binary = program("callers.c", "-fno-builtin", name="callers_complete")
    tracer.run(binary)
    found = tracer.only(binary)
    stacks = [Functions(binary).stack(found, row) for row in found.rows]
    own = [names for names in stacks if names and names[0].startswith("call_")]
    assert len(own) >= 13
    for names in own:
        assert names[1] == "main"
        assert names[2:] == ["[libc.so.6]", "[libc.so.6]", "_start"]
    assert found.header.counters["truncated"] == 0


# ---- early and late ----------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", ["lazy", "now"])
@pytest.mark.parametrize("mode", ["full", "normal"])
def test_allocations_before_and_after_everything(tracer, program, binding, mode):
    """.preinit_array, dlsym, constructors, destructors, atexit, dlopen."""
    binary = program("early.c", f"-Wl,-z,{binding}", name=f"early_{binding}")
    assert tracer.same(binary, mode=mode).returncode == 0


def test_calloc_wrapped_by_another_library(tracer, program):
    """Before us or behind us, whose dlsym calls calloc."""
    library = program("next_calloc.c", "-shared", "-fPIC", name="next_calloc.so")
    early, family = program("early.c", name="early_plain"), program("callers.c", "-fno-builtin", name="callers_wrapped")
    for binary in (early, family):
        plain = run(binary)
        for preload in (f"{tracer.core}:{library}", f"{library}:{tracer.core}"):
            assert outcome(tracer.run(binary, env={"LD_PRELOAD": preload})) == outcome(plain)


ENDS = {
    "exit": 3, "quick_exit": 4, "_exit": 5, "return": 6, "abort": -signal.SIGABRT, "segv": -signal.SIGSEGV,
    "pthread_exit": 0, "thread_exit": 7, "threads": 8,
}  # fmt: skip


@pytest.mark.parametrize("how", ENDS)
def test_every_way_to_end(tracer, program, how):
    """Status, output and the order of handlers; threads may run and destructors allocate."""
    binary = program("ends.c", "-Wno-array-bounds")
    for mode in ("full", "normal"):
        assert tracer.same(binary, how, mode=mode).returncode == ENDS[how]
    assert {found.header.state_name for found in tracer.recordings()} == (
        {"recording"} if how in ("quick_exit", "_exit", "abort", "segv") else {"exited"}
    )


# ---- stacks and signals --------------------------------------------------------------------------------


def test_stacks_of_all_kinds_are_counted_exactly(tracer, program):
    """16 KiB threads, ucontexts, alternate signal stacks, longjmp through the C library."""
    binary = program("stacks.c")
    done = tracer.same(binary)
    found = tracer.only(binary)
    assert found.samples_lost == {}
    assert Functions(binary).sums(found, "keep_") == ledger(done.stdout)
    for prefix, below in (("keep_small", "small"), ("keep_context", "turn"), ("keep_signal", "handler")):
        stacks = [Functions(binary).stack(found, row) for row in found.rows]
        assert all(names[1] == below for names in stacks if names and names[0] == prefix)


@pytest.mark.parametrize("mode", ["full", "normal"])
def test_handlers_that_allocate_at_any_instruction(tracer, program, mode):
    """They interrupt our own code too: passed over there, and counted."""
    library = program("bump_malloc.c", "-shared", "-fPIC", "-fno-builtin", name="bump_malloc.so")
    binary = program("signals.c")
    plain = run(binary, 300_000, env={"LD_PRELOAD": library})
    traced = tracer.run(binary, 300_000, mode=mode, env={"LD_PRELOAD": f"{tracer.core}:{library}"})
    assert outcome(traced) == outcome(plain)
    assert traced.stdout == "on the alternate stack: 1, enough signals: 1, intact: 1\n"
    found = tracer.only(binary)
    assert set(found.samples_lost) <= {"nested", "lost"}
    assert found.header.counters["samples"] > (1000 if mode == "normal" else 100_000)


# ---- what the program may see of us ------------------------------------------------------------------------


def test_descriptors_are_left_alone(tracer, program, tmp_path):
    """All closed at start and used again: the program's files hold what it wrote, and there is no other."""
    binary = program("bare.c")
    contents = []
    for name, start in (("plain", run), ("traced", tracer.run)):
        (tmp_path / name).mkdir()
        assert start(binary, tmp_path / name).returncode == 0
        contents.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert contents[0] == contents[1]
    assert tracer.only(binary).header.counters["samples"] >= 100_000


def test_strict_seccomp(tracer, program):
    """A program that may only read, write and exit goes on."""
    assert tracer.same(program("strict.c")).stdout == "done\n"
    assert tracer.only().header.counters["samples"] > 200_000


@pytest.mark.parametrize("mode", ["full", "normal", "off"])
def test_no_system_calls_after_warm_up(tracer, program, tmp_path, mode):
    """Between the program's two marks stands nothing."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log, binary = tmp_path / "log", program("quiet.c")
    variables = [
        f"-E{name}={value}"
        for name, value in tracer.environment(mode).items()
        if name.startswith(("MEMLEAK", "LD_PRE"))
    ]
    done = run("strace", "-o", log, *variables, binary)
    if "PTRACE" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0
    calls = [re.match(r"(\w+)\(", line).group(1) for line in log.read_text().splitlines() if re.match(r"\w+\(", line)]
    first = calls.index("getpriority")
    assert calls[first + 1] == "getpriority"
    assert tracer.only(binary).header.counters["samples"] > {"full": 1_900_000, "normal": 10_000, "off": -1}[mode]


@pytest.mark.parametrize(
    ("threads", "environment", "expected"), [(0, {}, 1), (2, {}, 2), (2, {"MEMLEAK_THREAD": "0"}, 1)]
)
def test_single_threaded_program_stays_single_threaded(tracer, program, threads, environment, expected):
    """One thread of ours at most, once the program has some, unless that is forbidden."""
    done = tracer.run(program("quiet.c"), threads, mode="normal", env=environment)
    assert done.stdout == f"tasks {expected}\n"
