"""Names come out of the cache only where a symbolizer would give them now, and then without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elfwriter import ElfSymbol, write_elf

from memleak.symbolize import Symbolizer
from memleak.symbolize import cache as cache_module
from memleak.symbolize import demangle as demangle_module
from memleak.symbolize import remembered as remembered_module
from memleak.symbolize.cache import SymbolCache
from memleak.symbolize.frames import Frame
from memleak.symbolize.remembered import CachedSymbolizer, Remembered

OURS = bytes(range(20))
SOURCE = """
#include <stdlib.h>
static inline void *get(size_t bytes) { return malloc(bytes); }
__attribute__((noinline)) void *grow(size_t bytes) { return get(bytes); }
int main(void) { free(grow(10)); return 0; }
"""


@pytest.fixture
def cache(tmp_path):
    return SymbolCache(str(tmp_path / "cache"))


@pytest.fixture
def app(tmp_path):
    """A program of one function, `alpha` at 0x1000."""
    path = tmp_path / "app"
    path.write_bytes(write_elf(symbols=[ElfSymbol("alpha", 0x1000)], build_id=OURS))
    return path


def ask(cache: SymbolCache | None, path: object, *addresses: int, build_id=OURS, **options) -> list[str | None]:
    """Return the innermost function of each address, by a symbolizer of its own."""
    with Symbolizer(cache=cache, **options) as symbolizer:
        chains = symbolizer.resolve([(str(path), build_id, address, True) for address in addresses])
    return [chain[0].function for chain in chains]


def stored(cache: SymbolCache) -> list[str]:
    return sorted(os.listdir(cache.place)) if os.path.isdir(cache.place) else []


def remembered(cache: SymbolCache, path: object, address: int, build_id: str | None = OURS.hex()) -> bool:
    """Tell whether the cache alone answers."""
    return bool(Remembered(cache).find([(str(path), build_id, address, True)]))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    directory = tmp_path_factory.mktemp("program")
    (directory / "app.c").write_text(SOURCE)
    command = ["gcc", "-g", "-O2", "-Wl,--build-id=sha1", "-o", str(directory / "app"), str(directory / "app.c")]
    subprocess.run(command, check=True)
    return directory / "app"


def test_the_second_time_every_frame_is_the_same(program, cache):
    requests = [(str(program), None, address, bool(address % 2)) for address in range(0x1000, 0x1300)]
    with Symbolizer() as symbolizer:
        expected = symbolizer.resolve(requests)
    for _ in range(2):
        with Symbolizer(cache=cache) as symbolizer:
            assert symbolizer.resolve(requests) == expected
            assert symbolizer.problems() == {}
    assert len(Remembered(cache).find(requests)) == len(requests)
    assert any(len(chain) > 1 for chain in expected)


def test_the_second_time_no_process_and_no_elf_library_is_needed(program, cache):
    code = (
        "import sys; from memleak.symbolize import Symbolizer; from memleak.symbolize.cache import SymbolCache\n"
        "with Symbolizer(cache=SymbolCache(sys.argv[1])) as symbolizer:\n"
        "    frames = symbolizer.resolve([(sys.argv[2], None, address, True) for address in range(0x1000, 0x1300)])\n"
        "print(sum(chain[0].line is not None for chain in frames))\n"
        "print(*({'elftools', 'subprocess', 'memleak.symbolize.engine'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, cache.place, str(program)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    lines, loaded = first.stdout.splitlines()
    assert int(lines) > 0 and "elftools" in loaded
    assert second.stdout.splitlines() == [lines, ""]


def test_only_new_addresses_are_asked_for(app, cache, monkeypatch):
    assert ask(cache, app, 0x1000, 0x1001) == ["alpha", "alpha"]
    asked = []
    with Symbolizer(cache=cache) as symbolizer:
        real = symbolizer._ask
        monkeypatch.setattr(symbolizer, "_ask", lambda wanted: asked.extend(wanted) or real(wanted))
        symbolizer.resolve([(str(app), OURS, address, True) for address in (0x1000, 0x1002)])
    assert [address for _, _, address, _ in asked] == [0x1002]
    assert remembered(cache, app, 0x1002)


def test_a_return_address_and_the_instruction_before_it_are_one_answer(app, cache):
    ask(cache, app, 0x100F)
    with Symbolizer(cache=cache, engine="auto") as symbolizer:
        assert symbolizer.frames(str(app), OURS, 0x1010, exact=False) == (
            Frame("alpha", None, None, False, str(app), 0x1010),
        )
    assert Remembered(cache).find([(str(app), OURS.hex(), 0x1010, False)])
    assert not remembered(cache, app, 0x1010)


def test_the_same_build_elsewhere_is_answered_for_with_its_own_path(app, cache, tmp_path):
    ask(cache, app, 0x1000)
    copy = tmp_path / "copy"
    shutil.copy2(app, copy)
    ((frame,),) = Remembered(cache).find([(str(copy), None, 0x1000, True)]).values()
    assert frame.module == str(copy)


def test_without_a_cache_no_file_is_written(app, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMLEAK_SYMBOL_CACHE", str(tmp_path / "place"))
    before = sorted(tmp_path.rglob("*"))
    assert ask(None, app, 0x1000) == ["alpha"]
    assert sorted(tmp_path.rglob("*")) == before


# ---- what makes another answer ------------------------------------------------------------------------


def test_a_replaced_binary_is_refused_however_well_it_is_remembered(app, cache):
    assert ask(cache, app, 0x1000) == ["alpha"]
    app.write_bytes(write_elf(symbols=[ElfSymbol("beta", 0x1000)], build_id=OURS[::-1]))
    with Symbolizer(cache=cache) as symbolizer:
        assert symbolizer.frames(str(app), OURS, 0x1000, True)[0].function is None
        assert "the recording was made with" in symbolizer.problems()[str(app)]
    assert not remembered(cache, app, 0x1000)
    assert ask(cache, app, 0x1000, build_id=None) == ["beta"]


def test_what_is_not_found_or_refused_is_not_stored(app, cache, tmp_path):
    ask(cache, tmp_path / "missing", 0x1000)
    ask(cache, app, 0x1000, build_id=OURS[::-1])
    ask(cache, "[vdso]", 0x1000)
    ask(cache, "", 0x1000)
    (tmp_path / "text").write_text("no program")
    ask(cache, tmp_path / "text", 0x1000, build_id=None)
    assert stored(cache) == []


def test_a_debug_file_installed_later_is_used(app, cache, tmp_path):
    app.write_bytes(write_elf(build_id=OURS))
    directory = tmp_path / "debug"
    debug = directory / ".build-id" / OURS.hex()[:2] / (OURS.hex()[2:] + ".debug")
    assert ask(cache, app, 0x1000, debug_dirs=[str(directory)]) == [None]
    debug.parent.mkdir(parents=True)
    debug.write_bytes(write_elf(symbols=[ElfSymbol("local", 0x1000, bind="local")], build_id=OURS))
    assert ask(cache, app, 0x1000, debug_dirs=[str(directory)]) == ["local"]
    assert ask(cache, app, 0x1000) == [None]
    debug.write_bytes(write_elf(symbols=[ElfSymbol("better", 0x1000)], build_id=OURS))
    assert ask(cache, app, 0x1000, debug_dirs=[str(directory)]) == ["better"]


def test_a_changed_file_of_the_same_build_is_read_again(app, cache):
    assert ask(cache, app, 0x1000) == ["alpha"]
    app.write_bytes(write_elf(symbols=[ElfSymbol("alphabet", 0x1000)], build_id=OURS))
    assert ask(cache, app, 0x1000) == ["alphabet"]


def test_engines_have_answers_of_their_own(program, cache):
    with Symbolizer(cache=cache, engine="none") as symbolizer:
        chains = symbolizer.resolve([(str(program), None, address, True) for address in range(0x1000, 0x1300)])
        assert all(chain[0].line is None for chain in chains)
    with Symbolizer(cache=cache) as symbolizer:
        chains = symbolizer.resolve([(str(program), None, address, True) for address in range(0x1000, 0x1300)])
        assert any(chain[0].line for chain in chains)
    assert sum(name.endswith(".answers.mlsym") for name in stored(cache)) == 2


def test_answers_of_other_code_of_ours_do_not_count(app, cache, monkeypatch):
    ask(cache, app, 0x1000)
    assert remembered(cache, app, 0x1000)
    monkeypatch.setattr(remembered_module, "_code_state", [("symbolizer.py", 1, 2)])
    assert not remembered(cache, app, 0x1000)


def test_what_dwz_took_out_is_a_part_of_it(app, cache, tmp_path):
    app.write_bytes(
        write_elf(symbols=[ElfSymbol("alpha", 0x1000)], build_id=OURS, sections={".gnu_debugaltlink": b"dwz\0" + OURS})
    )
    ask(cache, app, 0x1000)
    assert remembered(cache, app, 0x1000)
    (tmp_path / "dwz").write_bytes(b"now it is there")
    assert not remembered(cache, app, 0x1000)


def test_a_binary_with_problems_is_not_stored(program, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with Symbolizer(cache=cache, engine="addr2line") as symbolizer:
        symbolizer.frames(str(program), None, 0x1100, True)
        assert "not installed" in symbolizer.problems()[str(program)]
    assert stored(cache) == []


def test_names_that_nobody_could_demangle_are_not_stored(app, cache, monkeypatch):
    app.write_bytes(write_elf(symbols=[ElfSymbol("_ZN4shop3addEv", 0x1000)], build_id=OURS))
    with monkeypatch.context() as patched:
        patched.setattr(demangle_module, "_commands", list)
        assert ask(cache, app, 0x1000) == ["_ZN4shop3addEv"]
    assert stored(cache) == []


def test_a_binary_replaced_while_it_is_read_is_not_stored(app, cache, monkeypatch):
    with Symbolizer(cache=cache) as symbolizer:
        real = symbolizer._ask

        def replaced(wanted):
            app.write_bytes(write_elf(symbols=[ElfSymbol("beta", 0x1000)], build_id=OURS[::-1]))
            return real(wanted)

        monkeypatch.setattr(symbolizer, "_ask", replaced)
        symbolizer.resolve([(str(app), None, 0x1000, True)])
    assert stored(cache) == []


# ---- without a build-id --------------------------------------------------------------------------------


def test_a_binary_without_a_build_id_is_known_by_its_bytes(tmp_path, cache):
    path = tmp_path / "old"
    content = write_elf(symbols=[ElfSymbol("alpha", 0x1000)])
    path.write_bytes(content)
    os.utime(path, (1, 1))
    assert ask(cache, path, 0x1000, build_id="") == ["alpha"]
    assert remembered(cache, path, 0x1000, "") and remembered(cache, path, 0x1000, None)
    assert not remembered(cache, path, 0x1000, OURS.hex())
    other = content.replace(b"alpha", b"omega")
    assert len(other) == len(content)
    path.write_bytes(other)
    os.utime(path, (1, 1))  # the same size and time
    assert not remembered(cache, path, 0x1000, "")
    assert ask(cache, path, 0x1000, build_id="") == ["omega"]


def test_an_absurd_build_id_is_not_stored(tmp_path, cache):
    path = tmp_path / "app"
    path.write_bytes(write_elf(symbols=[ElfSymbol("alpha", 0x1000)], build_id=bytes(1000)))
    assert ask(cache, path, 0x1000, build_id=None) == ["alpha"]
    assert stored(cache) == []


def test_a_build_id_longer_than_a_recording_keeps_is_found_by_its_beginning(tmp_path, cache):
    path = tmp_path / "app"
    path.write_bytes(write_elf(symbols=[ElfSymbol("alpha", 0x1000)], build_id=bytes(range(32))))
    assert ask(cache, path, 0x1000, build_id=bytes(range(20))) == ["alpha"]
    assert remembered(cache, path, 0x1000, bytes(range(20)).hex())
    assert remembered(cache, path, 0x1000, bytes(range(32)).hex())


# ---- by itself -----------------------------------------------------------------------------------------


def test_a_cache_that_is_damaged_while_it_is_open_costs_only_time(app, cache):
    ask(cache, app, 0x1000, 0x1001)
    ours = Remembered(cache)
    assert ours.find([(str(app), OURS.hex(), 0x1000, True)])
    (name,) = stored(cache)
    with open(Path(cache.place, name), "r+b") as file:
        file.truncate(10)
    ours.find([(str(app), OURS.hex(), 0x1001, True)])
    ours.close()
    assert ask(cache, app, 0x1000, 0x1001) == ["alpha", "alpha"]
    assert remembered(cache, app, 0x1001)


def test_many_answers_are_written_before_the_end(app, cache, monkeypatch):
    monkeypatch.setattr(remembered_module, "MAX_PENDING", 10)
    with Symbolizer(cache=cache) as symbolizer:
        symbolizer.resolve([(str(app), OURS, address, True) for address in range(0x1000, 0x1010)])
        assert stored(cache)


def test_few_files_are_open_at_once(cache, tmp_path):
    paths = [tmp_path / f"app{number}" for number in range(3 * remembered_module.MAX_OPEN)]
    for number, path in enumerate(paths):
        path.write_bytes(write_elf(symbols=[ElfSymbol(f"f{number}", 0x1000, 0x40)], build_id=bytes([number]) * 20))
    requests = [(str(path), None, address, True) for address in (0x1000, 0x1001) for path in paths]
    with Symbolizer(cache=cache) as symbolizer:
        expected = symbolizer.resolve(requests)
    before = len(os.listdir("/proc/self/fd"))
    ours = Remembered(cache)
    assert list(ours.find(requests).values()) == sorted(expected, key=lambda chain: int(chain[0].function[1:]))
    assert 0 < len(os.listdir("/proc/self/fd")) - before <= remembered_module.MAX_OPEN
    ours.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_file_stays_open(app, cache):
    ask(cache, app, 0x1000)
    before = len(os.listdir("/proc/self/fd"))
    ask(cache, app, 0x1000, 0x1001)
    assert len(os.listdir("/proc/self/fd")) == before


class Behind:
    """A symbolizer that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.closed = 0
        self.found: dict[str, str] = {}

    def resolve(self, requests):
        self.asked += [request[2] for request in requests]
        return [(Frame("behind", None, None, False, path, vaddr),) for path, _, vaddr, _ in requests]

    def problems(self):
        return self.found

    def close(self):
        self.closed += 1


def test_any_symbolizer_may_stand_behind_the_cache(app, cache):
    for asked in ([0x1000, 0x1001], []):
        behind = Behind()
        with CachedSymbolizer(behind, Remembered(cache)) as symbolizer:
            requests = [(str(app), OURS, address, True) for address in (0x1000, 0x1001, 0x1000)]
            assert [chain[0].function for chain in symbolizer.resolve(requests)] == ["behind"] * 3
            assert symbolizer.frames(str(app), OURS, 0x1001, True)[0].offset == 0x1001
        assert (behind.asked[:2], behind.closed) == (asked, 1)


def test_what_it_has_problems_with_is_asked_again(app, cache):
    for _ in range(2):
        behind = Behind()
        behind.found[str(app)] = "its reader was lost"
        with CachedSymbolizer(behind, Remembered(cache)) as symbolizer:
            symbolizer.frames(str(app), OURS, 0x1000, True)
            assert symbolizer.problems() == behind.found
        assert behind.asked == [0x1000]
    assert stored(cache) == []


def test_an_answer_of_no_frames_is_an_answer(app, cache):
    request = (str(app), None, 0x1000, True)
    first = Remembered(cache, engine="addr2line")
    first.keep({request: ()}, {})
    first.close()
    assert Remembered(cache, engine="addr2line").find([request]) == {request: ()}
    assert Remembered(cache, engine="other").find([request]) == {}


def test_the_cli_asks_the_environment(tmp_path):
    environ = {"MEMLEAK_SYMBOL_CACHE": str(tmp_path)}
    assert cache_module.default(environ).place == str(tmp_path)
    assert cache_module.default({**environ, "MEMLEAK_SYMBOL_CACHE": "off"}) is None
