"""Names and lines from end to end, checked against addr2line on programs compiled here."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from elfwriter import ElfSymbol, write_elf

from memleak.symbolize import Frame, Symbolizer, format_frames
from memleak.symbolize import demangle as demangle_module
from memleak.symbolize.elf import ElfError, open_elf, own_vdso
from memleak.symbolize.symbols import SymbolTable

OURS = bytes(range(20))
OTHER = bytes(range(100, 120))

C_SOURCE = """
#include <stdlib.h>
struct table { size_t used; void **slots; };
static inline void *get(size_t bytes) { return malloc(bytes); }
static inline void put(struct table *t, size_t bytes) { t->slots[t->used++] = get(bytes); }
__attribute__((noinline)) void grow(struct table *t) { for (int i = 0; i < 10; i++) put(t, i); }
int main(void) {
    struct table t = {0, malloc(1000)};
    grow(&t);
    for (size_t i = 0; i < t.used; i++) free(t.slots[i]);
    return 0;
}
"""
CXX_SOURCE = """
#include <map>
#include <string>
#include <vector>
namespace shop {
template <class T> struct Cache {
    std::map<std::string, std::vector<T>> rows;
    __attribute__((noinline)) void add(const std::string &key, T value) { rows[key].push_back(value); }
};
template struct Cache<int>;
template struct Cache<double>;
}
int main(int argc, char **argv) {
    shop::Cache<int> a;
    shop::Cache<double> b;
    for (int i = 0; i < argc; i++) { a.add(argv[i], i); b.add(argv[i], i / 2.0); }
    return (int)(a.rows.size() + b.rows.size());
}
"""
LANGUAGES = {"c": ("gcc", C_SOURCE), "cc": ("g++", CXX_SOURCE)}


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Compile once: ``program("c", "-O2")`` returns the path of an executable with -g."""
    directory = tmp_path_factory.mktemp("symbolize")
    built: dict[tuple[str, ...], str] = {}

    def build(suffix: str, *flags: str) -> str:
        compiler, source = LANGUAGES[suffix]
        need(compiler)
        if (suffix, *flags) not in built:
            path = directory / f"app{len(built)}"
            path.with_suffix(f".{suffix}").write_text(source)
            subprocess.run(
                [compiler, "-g", "-Wl,--build-id=sha1", *flags, "-o", str(path), str(path.with_suffix(f".{suffix}"))],
                check=True,
            )
            built[(suffix, *flags)] = str(path)
        return built[(suffix, *flags)]

    return build


def code_addresses(path: str, count: int) -> list[int]:
    """Return addresses within the functions of *path*, drawn with a fixed seed."""
    with open_elf(path) as image:
        table = SymbolTable([image])
        text = image.section(".text")
    inside = [a for a in range(text.address, text.address + text.size) if table.find(a)]
    return sorted(random.Random(7).sample(inside, min(count, len(inside))))


def addr2line(path: str, addresses: list[int]) -> list[list[str]]:
    """Return GNU addr2line's own text, one list of lines for each address."""
    done = subprocess.run(
        ["addr2line", "-a", "-f", "-i", "-p", "-C", "-e", path, *(hex(a) for a in addresses)],
        capture_output=True,
        text=True,
        check=True,
    )
    blocks = re.split(r"^0x[0-9a-f]+: ", done.stdout, flags=re.MULTILINE)[1:]
    return [re.sub(r" \(discriminator \d+\)", "", block).splitlines() for block in blocks]


def printed(frames: tuple[Frame, ...]) -> list[str]:
    """Print frames for comparison: addr2line has no "module+offset", it prints ??:? there."""
    return [re.sub(r" at \S+\+0x[0-9a-f]+$", " at ??:?", line) for line in format_frames(frames)]


def without_symbol_file(block: list[str]) -> list[str]:
    """Where there is no line, GNU prints the symbol table's file name or ??:0: both mean none."""
    return [re.sub(r" at [^ ]*:(\?|0)$", " at ??:?", line) for line in block]


@pytest.mark.parametrize("engine", ["memleak", "llvm-symbolizer", "addr2line"])
@pytest.mark.parametrize("suffix", ["c", "cc"])
@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O2", "-no-pie"), ("-O2", "-gdwarf-4")], ids=" ".join)
def test_two_hundred_addresses_read_as_addr2line_prints_them(program, engine, suffix, flags):
    need(*{engine, "addr2line"} - {"memleak"})
    path = program(suffix, *flags)
    addresses = code_addresses(path, 200)
    with Symbolizer(engine=engine) as symbolizer:
        frames = symbolizer.resolve([(path, None, address, True) for address in addresses])
        assert symbolizer.problems() == {}
    expected = [without_symbol_file(block) for block in addr2line(path, addresses)]
    assert [printed(chain) for chain in frames] == expected
    assert any(len(chain) > 1 for chain in frames) == ("-O2" in flags)


@pytest.mark.parametrize("suffix", ["c", "cc"])
def test_function_names_without_a_tool_agree_with_addr2line(program, suffix):
    need("addr2line", "c++filt")
    path = program(suffix, "-O0")
    addresses = code_addresses(path, 200)
    with Symbolizer(engine="none") as symbolizer:
        frames = symbolizer.resolve([(path, None, address, True) for address in addresses])
    expected = [block[-1].split(" at ")[0] for block in addr2line(path, addresses)]
    assert [chain[-1].function for chain in frames] == expected
    assert all(chain == (chain[0]._replace(file=None, line=None, inlined=False),) for chain in frames)


@pytest.mark.parametrize("place", ["build-id", "debuglink", "debug-dir"])
def test_a_stripped_program_is_named_through_its_debug_file(program, tmp_path, place):
    need("objcopy")
    need("addr2line")
    path = program("c", "-O2")
    with open_elf(path) as image:
        build_id = image.build_id
    tree = {"build-id": "mine/.build-id/" + build_id[:2], "debuglink": "bin/.debug", "debug-dir": "mine"}[place]
    name = build_id[2:] + ".debug" if place == "build-id" else "app.debug"
    debug = tmp_path / tree / name
    debug.parent.mkdir(parents=True)
    stripped = tmp_path / "bin" / "app"
    stripped.parent.mkdir(exist_ok=True)
    subprocess.run(["objcopy", "--only-keep-debug", path, str(debug)], check=True)
    link = [] if place == "build-id" else [f"--add-gnu-debuglink={debug}"]
    subprocess.run(["objcopy", "--strip-all", *link, path, str(stripped)], check=True)

    addresses = code_addresses(path, 50)
    with Symbolizer(debug_dirs=[str(tmp_path / "mine")]) as symbolizer:
        whole = symbolizer.resolve([(path, build_id, a, True) for a in addresses])
        apart = symbolizer.resolve([(str(stripped), build_id, a, True) for a in addresses])
        assert symbolizer.problems() == {}
    assert [printed(chain) for chain in apart] == [printed(chain) for chain in whole]
    with Symbolizer() as symbolizer:
        alone = symbolizer.frames(str(stripped), build_id, addresses[0], True)
        if place != "debuglink":
            assert (alone[0].function, alone[0].file) == (None, None)


def test_a_relative_path_is_of_the_current_directory(program, monkeypatch):
    need("addr2line")
    path = program("c", "-O2")
    with open_elf(path) as image:
        table = SymbolTable([image])
    address = next(a for a in code_addresses(path, 200) if table.find(a) == "main")
    monkeypatch.chdir(os.path.dirname(path))
    with Symbolizer() as symbolizer:
        near = symbolizer.frames(os.path.basename(path), None, address, True)
        far = symbolizer.frames(path, None, address, True)
    assert near == tuple(frame._replace(module=os.path.basename(path)) for frame in far)
    assert near[0].line is not None


def test_a_return_address_names_the_call_before_it(tmp_path):
    app = tmp_path / "app"
    app.write_bytes(write_elf(symbols=[ElfSymbol("caller", 0x1000), ElfSymbol("innocent", 0x1010)], build_id=OURS))
    with Symbolizer() as symbolizer:
        (frame,) = symbolizer.frames(str(app), OURS, 0x1010)
        assert (frame.function, frame.offset) == ("caller", 0x1010)
        (frame,) = symbolizer.frames(str(app), OURS, 0x1010, exact=True)
        assert frame.function == "innocent"
        assert symbolizer.frames(str(app), OURS, 0)[0].function is None


def test_answers_keep_the_order_of_the_questions_and_are_remembered(tmp_path):
    paths = []
    for number in range(3):
        path = tmp_path / f"lib{number}.so"
        path.write_bytes(write_elf(symbols=[ElfSymbol(f"f{number}", 0x1000)], build_id=OURS))
        paths.append(str(path))
    requests = [(paths[i % 3], OURS, 0x1000 + i % 7, True) for i in range(100)]
    with Symbolizer() as symbolizer:
        answers = symbolizer.resolve(requests)
        assert [chain[0].function for chain in answers] == [f"f{i % 3}" for i in range(100)]
        for path in paths:
            os.unlink(path)
        assert symbolizer.resolve(requests) == answers
        assert symbolizer.resolve([]) == []


def test_forgetting_old_answers_never_loses_one_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("memleak.symbolize.symbolizer.MAX_REMEMBERED", 5)
    app = tmp_path / "app"
    app.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000, 0x100)], build_id=OURS))
    with Symbolizer() as symbolizer:
        for _ in range(3):
            answers = symbolizer.resolve([(str(app), OURS, 0x1000 + i, True) for i in range(20)])
            assert {chain[0].function for chain in answers} == {"f"}


def test_another_build_gives_no_names_but_a_reason(tmp_path):
    app = tmp_path / "app"
    app.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000)], build_id=OTHER))
    with Symbolizer() as symbolizer:
        frames = symbolizer.frames(f"{app} (deleted)", OURS.hex(), 0x1001)
        assert frames == (Frame(None, None, None, False, str(app), 0x1001),)
        reason = f"binary {app} has build-id {OTHER.hex()}, the recording was made with {OURS.hex()}"
        assert symbolizer.problems() == {str(app): reason}


def test_a_binary_replaced_between_finding_and_reading_gives_no_names(tmp_path):
    app = tmp_path / "app"
    app.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000)], build_id=OURS))
    with Symbolizer() as symbolizer:
        symbolizer._module(str(app), OURS.hex())
        app.write_bytes(write_elf(symbols=[ElfSymbol("wrong", 0x1000)], build_id=OTHER))
        assert symbolizer.frames(str(app), OURS, 0x1001)[0].function is None


@pytest.mark.parametrize("path", ["", "[heap]", "[vsyscall]"])
def test_memory_without_a_file_has_no_name_and_no_problem(path):
    with Symbolizer() as symbolizer:
        assert symbolizer.frames(path, None, 0x10) == (Frame(None, None, None, False, path, 0x10),)
        assert symbolizer.problems() == {}


def test_the_vdso_is_named_only_if_it_is_the_running_kernels():
    try:
        with own_vdso() as image:
            build_id = image.build_id
            table = SymbolTable([image])
    except ElfError as error:
        pytest.skip(f"no vDSO to read: {error}")
    address = next(a for a in range(0x10000) if table.find(a))
    with Symbolizer() as symbolizer:
        for name in ("[vdso]", "linux-vdso.so.1"):
            assert symbolizer.frames(name, build_id, address, True)[0].function == table.find(address)
        assert symbolizer.frames("[vdso]", OTHER, address, True)[0].function is None
        assert symbolizer.frames("[vdso]", None, address, True)[0].function is None


def test_without_any_tool_there_are_lines(program, tmp_path, monkeypatch):
    path = program("c", "-O2")
    addresses = code_addresses(path, 20)
    with Symbolizer() as symbolizer:
        expected = symbolizer.resolve([(path, None, address, True) for address in addresses])
    monkeypatch.setenv("PATH", str(tmp_path))
    with Symbolizer() as symbolizer:
        assert symbolizer.resolve([(path, None, address, True) for address in addresses]) == expected
        assert any(chain[0].line for chain in expected) and not symbolizer.problems()


@pytest.mark.parametrize("engine", ["llvm-symbolizer", "addr2line"])
def test_without_the_tool_asked_for_there_are_function_names_and_a_remedy(program, tmp_path, monkeypatch, engine):
    path = program("c", "-O2")
    monkeypatch.setenv("PATH", str(tmp_path))
    addresses = code_addresses(path, 20)
    with Symbolizer(engine=engine) as symbolizer:
        frames = symbolizer.resolve([(path, None, address, True) for address in addresses])
        assert all(chain[0].function and chain[0].file is None for chain in frames)
        assert f"{engine} is not installed" in symbolizer.problems()[path]


def test_a_tool_that_hangs_costs_the_lines_of_that_binary_once(program, tmp_path, monkeypatch):
    path = program("c", "-O2")
    tool = tmp_path / "addr2line"
    tool.write_text("#!/bin/sh\nexec /bin/sleep 1000\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with Symbolizer(engine="addr2line") as symbolizer:
        symbolizer._engine_timeout_s = 0.5
        address, other = code_addresses(path, 2)
        assert symbolizer.frames(path, None, address, True)[0].function
        assert "addr2line gave no answer in 0.5 s" in symbolizer.problems()[path]
        assert symbolizer.frames(path, None, other, True)[0].function


def test_a_name_that_no_demangler_reads_is_shown_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(demangle_module, "_commands", list)
    app = tmp_path / "app"
    app.write_bytes(write_elf(symbols=[ElfSymbol("_ZN4shop3addEv", 0x1000)], build_id=OURS))
    with Symbolizer() as symbolizer:
        assert symbolizer.frames(str(app), OURS, 0x1001)[0].function == "_ZN4shop3addEv"
        assert "neither c++filt nor libstdc++" in symbolizer.problems()[str(app)]


def test_names_that_need_no_demangler_are_no_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(demangle_module, "_commands", list)
    app = tmp_path / "app"
    symbols = [ElfSymbol("alpha", 0x1000), ElfSymbol("_ZN4shop3add17h0123456789abcdefE", 0x1010)]
    app.write_bytes(write_elf(symbols=symbols, build_id=OURS))
    with Symbolizer() as symbolizer:
        names = [symbolizer.frames(str(app), OURS, at)[0].function for at in (0x1001, 0x1011)]
        assert names == ["alpha", "shop::add"]
        assert symbolizer.problems() == {}


def test_hostile_names_are_shown_without_harm(tmp_path):
    app = tmp_path / "app"
    names = ["\udcff\udcfe", "a\nb", "_Z\udcff", "\x1b[31mred"]
    symbols = [ElfSymbol(name, 0x1000 + 16 * i) for i, name in enumerate(names)]
    app.write_bytes(write_elf(symbols=symbols, build_id=OURS))
    with Symbolizer() as symbolizer:
        for number in range(len(names)):
            symbolizer.frames(str(app), OURS, 0x1001 + 16 * number)[0].function.encode("utf-8")


def test_debug_information_that_is_garbage_leaves_function_names(tmp_path):
    need("addr2line")
    rng = random.Random(3)
    sections = {".debug_info": rng.randbytes(4000), ".debug_line": rng.randbytes(4000), ".debug_abbrev": b"\x01" * 99}
    app = tmp_path / "app"
    app.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000, 0x100)], build_id=OURS, sections=sections))
    for engine in ("auto", "addr2line"):
        with Symbolizer(engine=engine) as symbolizer:
            answers = symbolizer.resolve([(str(app), OURS, 0x1000 + i, True) for i in range(50)])
            assert {chain[-1].function for chain in answers} == {"f"}


def test_closing_ends_every_helper_and_it_can_be_used_again(program):
    path = program("cc", "-O2")
    address = code_addresses(path, 1)[0]
    symbolizer = Symbolizer()
    before = len(os.listdir("/proc/self/fd"))
    first = symbolizer.frames(path, None, address, True)
    symbolizer.close()
    symbolizer.close()
    assert len(os.listdir("/proc/self/fd")) == before
    symbolizer._answers.clear()
    assert symbolizer.frames(path, None, address, True) == first
    symbolizer.close()
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == ""
