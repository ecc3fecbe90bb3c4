"""Addresses in a running process, and what they stand for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memleak.errors import QueryError, TargetError
from memleak.processplaces import Mapping, ProcessPlaces, parsed
from memleak.symbolize import Symbolizer
from memleak.symbolize.elf import own_vdso
from memleak.symbolize.nativesymbols import symbol_table

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
int work(int n) {
    return n * 3;
}
int main(void) {
    void *made = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("%p %p %p\\n", (void *)work, dlsym(RTLD_DEFAULT, "malloc"), made);
    fflush(stdout);
    getchar();
    return 0;
}
"""


@pytest.fixture(params=["-pie -fPIE", "-no-pie -fno-pie"])
def process(request, tmp_path):
    """A program that waits: (pid, path, the addresses it told of work, malloc and anonymous memory)."""
    (tmp_path / "a.c").write_text(SOURCE)
    path = tmp_path / "program"
    subprocess.run(["gcc", "-g", *request.param.split(), "-o", str(path), str(tmp_path / "a.c"), "-ldl"], check=True)
    with subprocess.Popen([str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        told = running.stdout.readline().split()
        yield running.pid, str(path), told
        running.stdin.close()


def names(pid: int, *addresses: str) -> list[tuple[str | None, int | None]]:
    places = ProcessPlaces(pid)
    with Symbolizer() as symbolizer:
        chains = symbolizer.resolve([places.place(address) for address in addresses])
    return [(chain[0].function, chain[0].line) for chain in chains]


def test_code_of_the_program_and_of_its_libraries_is_named(process):
    pid, _, (work, malloc, _) = process
    found = names(pid, work, malloc, work[2:].upper())
    assert found[0] == found[2] == ("work", 7)
    assert found[1][0] == "malloc"


def test_the_kernels_code_is_named(process):
    pid = process[0]
    with open(f"/proc/{pid}/maps") as maps:
        start = next((int(line.split("-")[0], 16) for line in maps if "[vdso]" in line), None)
    if start is None:
        pytest.skip("this process has no vDSO")
    with own_vdso() as image:
        text = image.section(".text")
        table = symbol_table([image])
    offset = next(at for at in range(text.address, text.address + text.size) if table.find(at))
    assert names(pid, hex(start + offset)) == [(table.find(offset), None)]


def test_code_made_at_run_time_has_the_names_of_the_perf_map(process):
    pid, _, (*_, made) = process
    path = f"/tmp/perf-{pid}.map"
    with open(path, "x") as file:
        file.write(f"{int(made, 16):x} 40 run ~app.js:7\n")
    try:
        assert names(pid, made, hex(int(made, 16) + 0x40)) == [("run ~app.js:7", None), (None, None)]
    finally:
        os.unlink(path)


def test_the_command_prints_lines(process):
    pid, path, (work, malloc, _) = process
    words = ["--no-cache", "-fps", "--pid", str(pid), work, malloc, "0x10"]
    command = [sys.executable, "-m", "memleak", "addr2line", *words]
    ran = subprocess.run(command, capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    assert lines[0] == "work at a.c:7"
    assert lines[1].startswith("malloc at ") and len(lines) == 3
    assert ran.stderr == f"memleak addr2line: 0x10: process {pid} has nothing mapped there\n" and ran.returncode == 1


def test_a_file_that_was_replaced_is_refused(process):
    pid, path, (work, *_) = process
    os.rename(path, path + ".old")
    with open(path + ".old", "rb") as old, open(path, "wb") as new:
        new.write(old.read())
    os.rename(path + ".old", path + ".kept")
    # The maps follow the file that was renamed.
    assert ProcessPlaces(pid).place(work).path == path + ".kept"
    os.unlink(path + ".kept")
    with pytest.raises(QueryError, match=r"\(deleted\): No such file"):
        ProcessPlaces(pid).place(work)


def test_what_cannot_be_meant_is_said(process):
    pid = process[0]
    places = ProcessPlaces(pid)
    for word, why in (("work", "is no address"), ("0x0", "nothing mapped"), ("f" * 16, "nothing mapped")):
        with pytest.raises(QueryError, match=why):
            places.place(word)
    with pytest.raises(TargetError, match="no process 4194304"):
        ProcessPlaces(4194304)
    command = [sys.executable, "-m", "memleak", "addr2line", "--pid", str(pid), "-r", "x", "0x10"]
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_lines_of_the_maps_are_read():
    line = b"7f00-7f10 r-xp 00001000 08:01 42                         /opt/a b\\012c (deleted)\n"
    expected = Mapping(0x7F00, 0x7F10, True, 0x1000, os.makedev(8, 1), 42, "/opt/a b\nc (deleted)")
    assert parsed(line) == expected
    assert parsed(b"7f00-7f10 rw-p 00000000 00:00 0 \n").path == ""
    assert [parsed(bad) for bad in (b"", b"x-y r-xp 0 0:0 0\n", b"7f00 r-xp 0 0:0 0\n", b"1-2 r 0 00 0\n")] == [None] * 4
