"""Names of code that was made at run time, as perf-PID.map files have them."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from memleak.symbolize import Symbolizer
from memleak.symbolize.debugfiles import is_perf_map
from memleak.symbolize.elf import ElfError
from memleak.symbolize.perfmap import PerfMap


def written(path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_only_files_of_that_name_are_such():
    assert is_perf_map("/tmp/perf-4711.map") and is_perf_map("perf-1.map")
    assert not any(map(is_perf_map, ["/tmp/perf-.map", "/tmp/perf-x.map", "/tmp/perf-1.map.old", "/tmp/my-perf-1.map"]))


def test_a_name_reaches_as_far_as_its_size(tmp_path):
    text = "1000 10 LazyCompile:~run /srv/app.js:12\n0x1020 0x8 stub\nnonsense\n2000 zz bad\n\n3000 0 empty\n"
    table = PerfMap(written(tmp_path / "perf-1.map", text))
    wanted = {0xFFF: None, 0x1000: "LazyCompile:~run /srv/app.js:12", 0x1010: None, 0x1027: "stub", 0x3000: None}
    assert {address: table.find(address) for address in wanted} == wanted
    assert (table.start_of("stub"), table.start_of("none")) == (0x1020, None)


def test_of_two_at_one_place_the_later_one_counts(tmp_path):
    table = PerfMap(written(tmp_path / "perf-1.map", "1000 100 old\n1040 20 new\n1050 100 newest\n1000 8 first\n"))
    assert [table.find(at) for at in (0x1004, 0x1020, 0x1048, 0x1058, 0x10F0, 0x114F, 0x1150)] == [
        "first", "old", "new", "newest", "newest", "newest", None,
    ]  # fmt: skip


def test_it_agrees_with_a_plain_list_of_who_wrote_last(tmp_path):
    chance = random.Random(4)
    entries = [(chance.randrange(0x400), chance.randrange(1, 60), f"f{number}") for number in range(300)]
    owner: dict[int, str] = {}
    for start, size, name in entries:
        owner.update((start + step, name) for step in range(size))
    text = "".join(f"{start:x} {size:x} {name}\n" for start, size, name in entries)
    table = PerfMap(written(tmp_path / "perf-1.map", text))
    assert {at: table.find(at) for at in range(0x480)} == {at: owner.get(at) for at in range(0x480)}


@pytest.mark.parametrize("text", ["", "nothing of it\n", "1000 0 empty\n", "ffffffffffffffff 10 beyond\n"])
def test_a_file_without_an_entry_is_refused(tmp_path, text):
    with pytest.raises(ElfError, match="START SIZE NAME"):
        PerfMap(written(tmp_path / "perf-1.map", text))


def test_a_symbolizer_takes_it_for_a_module(tmp_path):
    path = written(tmp_path / "perf-1.map", "1000 10 made\n")
    with Symbolizer(engine="none") as symbolizer:
        assert symbolizer.frames(path, None, 0x1004, True)[0].function == "made"
        assert symbolizer.frames(path, None, 0x1010)[0].function == "made"  # a return address: the call before it
        assert symbolizer.frames(str(tmp_path / "perf-2.map"), None, 0x1004)[0].function is None
        assert "No such file" in symbolizer.problems()[str(tmp_path / "perf-2.map")]
    with Symbolizer(engine="none", sysroot=str(tmp_path)) as symbolizer:
        assert symbolizer.frames("/perf-1.map", None, 0x1004)[0].function == "made"


def test_addr2line_reads_it(tmp_path):
    path = written(tmp_path / "perf-1.map", "1000 10 made\n")
    command = [sys.executable, "-m", "memleak", "addr2line", "-fe", path, "1004", "made", "2000"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("made\n??:?\nmade\n??:?\n??\n??:0\n", "", 0)
