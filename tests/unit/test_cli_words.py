"""How the command line's words are understood: run's options, programs, knobs, conditions."""

from __future__ import annotations

import os
import resource
import struct
import sys

import pytest

from memleak import cli
from memleak.cli import common, program, run, top
from memleak.cli import set as set_verb
from memleak.cli.preload import environment
from memleak.errors import QueryError


@pytest.mark.parametrize(
    ("argv", "own", "words"),
    [
        (["prog", "--min", "1"], [], ["prog", "--min", "1"]),
        (["--min", "4", "prog", "-n"], ["--min", "4"], ["prog", "-n"]),
        (["--min=4", "--quiet", "prog"], ["--min=4", "--quiet"], ["prog"]),
        (["-o", "file", "-m", "mod", "-o"], ["-o", "file"], ["-m", "mod", "-o"]),
        (["-ofile", "a.py"], ["-ofile"], ["a.py"]),
        (["--mode", "full", "-mmod"], ["--mode", "full"], ["-mmod"]),
        (["--quiet", "--", "--odd"], ["--quiet"], ["--odd"]),
        (["--sample-bytes", "-m", "x"], ["--sample-bytes", "-m"], ["x"]),
        (["--python-min", "4", "x", "--no-python"], ["--python-min", "4"], ["x", "--no-python"]),
        (["--no-python", "--python-max-sample-interval", "9", "x"],
         ["--no-python", "--python-max-sample-interval", "9"], ["x"]),
        ([], [], []),
    ],
)
def test_run_never_looks_into_the_programs_words(argv, own, words):
    """Options end at the first word that is the program's."""
    assert run.split(argv) == (own, words)


def test_run_command_for_scripts_modules_and_programs():
    """A script and a module are run by this Python, anything else by itself."""
    assert run.command(["a.py", "x"]) == [sys.executable, "a.py", "x"]
    assert run.command(["-m", "mod", "x"]) == [sys.executable, "-m", "mod", "x"]
    assert run.command(["-mmod", "x"]) == [sys.executable, "-m", "mod", "x"]
    assert run.command(["ls", "-l"]) == ["ls", "-l"]
    with pytest.raises(common.UsageError, match="which module"):
        run.command(["-m"])


@pytest.mark.parametrize(
    "argv",
    [
        ["run"],
        ["run", "--min", "0", "true"],
        ["run", "--min", "10001", "true"],
        ["run", "--min", "1.5", "true"],
        ["run", "--min", "300", "true"],
        ["run", "--min", "20", "--max", "10", "true"],
        ["run", "--python-min", "0", "true"],
        ["run", "--python-min", "4097", "true"],
        ["run", "--python-max", "255", "true"],
        ["run", "--python-min", "20", "--python-max", "10", "true"],
        ["run", "--mode", "full", "--python-min", "5", "true"],
        ["run", "--min", "1", "--max", "1", "--python-min", "5", "true"],
        ["run", "--mode", "fast", "true"],
        ["run", "--mode", "off", "--min", "16", "--max", "256", "true"],
        ["run", "--mode", "full", "--max", "64", "true"],
        ["run", "--mode", "normal", "--min", "1", "--max", "1", "true"],
        ["run", "--focus", "libfoo.so", "true"],
        ["run", "--focus", "", "true"],
        ["run", "--sample-bytes", "100", "true"],
        ["run", "--sample-bytes", "lots", "true"],
        ["run", "--nonsense", "true"],
        ["run", "-n", "0", "true"],
        ["run", "-o", "/nonexistent/dir/file", "true"],
        ["run", "-o", "/proc/new/", "true"],
        ["top"],
        ["top", ".", "-n", "many"],
        ["top", ".", "--where", "mod_name"],
        ["set", "1"],
        ["set", "1", "min"],
        ["set", "1", "min=x"],
        ["set", "1", "depth=3"],
        ["set", "1", "python_min=0"],
        ["set", "1", "--python-min", "10001"],
        ["set", "1", "python_min=5", "--python-min", "6"],
        ["set", "1", "--mode", "loud"],
        ["set", "1", "min=1", "min=2"],
        ["set", "1", "focus=module="],
        ["set", "1", "--focus", "label=tenant"],
        ["set", "1", "focus=mod=mmap", "--focus", "none"],
        ["sql", "."],
        ["save", "."],
        ["frobnicate"],
    ],
)
def test_usage_errors_are_one_line_and_status_2(argv, capfd, tmp_path, monkeypatch):
    """Nothing is started, nothing but one line is said."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("memleak")


def test_errors_are_one_line_and_status_1(capfd):
    """What was tried, why not, and what to do."""
    for argv in (["top", "/nonexistent"], ["status", "999999999"], ["save", "/etc/passwd", "-o", "/tmp/never"]):
        assert cli.main(argv) == 1
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"memleak {argv[0]}: ")


def test_help_lists_every_verb(capsys):
    """Each verb has a line, a module and a --help of its own."""
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f"  {verb} " in overview
        with pytest.raises(SystemExit) as ended:
            cli.main([verb, "--help"])
        assert ended.value.code == 0
        assert f"memleak {verb}" in capsys.readouterr().out


def test_set_reads_knobs_by_all_their_names():
    """Short names, full names, OceanBase's names, units."""
    assert set_verb.parse(["min=1", "max=9"]) == {"min": 1, "max": 9}
    assert set_verb.parse(["_min_malloc_sample_interval=2"]) == {"min": 2}
    assert set_verb.parse(["max_sample_interval=7", "sample_bytes=4M"]) == {"max": 7, "sample_bytes": 4 << 20}
    assert set_verb.parse(["mode=off"]) == {"mode": "off"}
    assert set_verb.parse(["python_min=3", "python_max_sample_interval=9"]) == {"python_min": 3, "python_max": 9}


def test_set_takes_options_too(monkeypatch):
    """Between the words, before or after the target; --min and min= are the same."""
    asked = []

    def note(target, **knobs):
        asked.append((target, knobs))
        raise ValueError("noted")

    monkeypatch.setattr(set_verb.control, "set_knobs", note)
    for argv in (["7", "--python-min", "4", "max=9", "--json"], ["--python-min-sample-interval=4", "7", "--max", "9"]):
        with pytest.raises(common.UsageError, match="noted"):
            set_verb.main(argv)
    assert asked == [("7", {"max": 9, "python_min": 4})] * 2


def test_run_hands_its_knobs_to_the_core(monkeypatch):
    """By the variables that anybody may set."""
    words = ["--mode", "full", "--python-min", "1", "--python-max", "64", "--sample-bytes", "1M", "--no-python"]
    assert run.knob_variables(run._parser().parse_args(words)) == {
        "MEMLEAK_MODE": "full",
        "MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "1",
        "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "64",
        "MEMLEAK_SAMPLE_BYTES": "1048576",
        "MEMLEAK_PYTHON": "0",
    }
    assert run.knob_variables(run._parser().parse_args([])) == {}
    assert run.knob_variables(run._parser().parse_args(["--no-native"])) == {"MEMLEAK_NATIVE": "0"}
    # The environment decides what is not said here.
    monkeypatch.setenv("MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", "300")
    options = run._parser().parse_args(["--python-min", "400"])
    with pytest.raises(common.UsageError, match="300"):
        run._check(options, ["true"])
    run._check(run._parser().parse_args(["--python-min", "290"]), ["true"])


def test_where_values_take_the_type_of_their_column():
    """A number is compared as a number; a value of the wrong type is refused."""
    assert common.conditions(["pid=7", "mod_name=a=b"]) == {"pid": "7", "mod_name": "a=b"}
    assert top.typed("pid", "7") == 7
    assert top.typed("exact", "true") is True
    with pytest.raises(QueryError, match="pid"):
        top.typed("pid", "seven")


def test_environment_prepends_and_keeps_what_was_there():
    """LD_PRELOAD keeps other libraries; a mode given on the command line wins over intervals around it."""
    before = {
        b"LD_PRELOAD": b"/other.so",
        b"HOME": b"/h",
        b"MEMLEAK_MIN_SAMPLE_INTERVAL": b"3",
        b"MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": b"5000",
        b"MEMLEAK_FOLLOW": b"1",
    }
    after = environment(before, "/core.so", "00ff", {"MEMLEAK_MODE": "full"}, follow=False)
    assert after == {
        b"LD_PRELOAD": b"/core.so:/other.so",
        b"HOME": b"/h",
        b"MEMLEAK": b"1",
        b"MEMLEAK_RUN_ID": b"00ff",
        b"MEMLEAK_MODE": b"full",
    }
    assert environment({}, "/core.so", "00ff", {}, follow=True)[b"MEMLEAK_FOLLOW"] == b"1"


def elf(*, bits=2, machine=62, loader=b"/lib64/ld-linux-x86-64.so.2\0") -> bytes:
    """Return the beginning of an ELF file with one program header, PT_INTERP unless *loader* is None."""
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    kind = 3 if loader is not None else 1
    return header + struct.pack("<IIQQQQQQ", kind, 4, 120, 0, 0, len(loader or b""), 0, 1) + (loader or b"")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (elf(), None),
        (elf(loader=None), "statically linked"),
        (elf(bits=1), "32-bit"),
        (elf(machine=183), "another machine"),
        (elf(loader=b"/lib/ld-musl-x86_64.so.1\0"), "needs glibc"),
        (b"#!/bin/sh\n", None),
        (b"#!\n", None),
        (b"echo no first line\n", None),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_obstacle_says_why_a_program_cannot_be_traced(tmp_path, image, words):
    """Judged from the file alone, against the core's class and machine."""
    core, path = tmp_path / "core.so", tmp_path / "program"
    core.write_bytes(elf())
    path.write_bytes(image)
    path.chmod(0o755)
    found = program.obstacle(str(path), str(core))
    assert (found is None) if words is None else (words in found)


def test_obstacle_follows_a_scripts_interpreter(tmp_path):
    """A script is as traceable as what runs it."""
    core, static, script = tmp_path / "core.so", tmp_path / "static", tmp_path / "script"
    core.write_bytes(elf())
    static.write_bytes(elf(loader=None))
    script.write_text(f"#!{static} -x\n")
    assert "statically linked" in program.obstacle(str(script), str(core))
    script.write_text(f"#!{script}\n")
    assert program.obstacle(str(script), str(core)) is None


def test_obstacle_of_a_file_that_lies(tmp_path):
    """Words the kernel would refuse, places beyond any file, a pipe that nobody writes into: no obstacle of ours."""
    core, path = tmp_path / "core", tmp_path / "program"
    core.write_bytes(elf())
    path.write_bytes(b"#!/bin/sh\0x\n")
    assert program.obstacle(str(path), str(core)) is None
    path.write_bytes(b"#!\0\n")
    assert program.obstacle(str(path), str(core)) is None
    image = bytearray(elf())
    for offset in (1 << 63, (1 << 64) - 1):
        struct.pack_into("<Q", image, 32, offset)
        path.write_bytes(image)
        assert "statically linked" in program.obstacle(str(path), str(core))
    os.mkfifo(tmp_path / "pipe")
    path.write_bytes(f"#!{tmp_path / 'pipe'}\n".encode())
    assert program.obstacle(str(path), str(core)) is None


def test_obstacle_reads_little_of_a_large_file(tmp_path):
    """Whatever the size of its table: 65535 headers of 65535 bytes would be 4 GiB."""
    core, path = tmp_path / "core", tmp_path / "program"
    core.write_bytes(elf())
    image = bytearray(elf(loader=None))
    struct.pack_into("<HH", image, 54, 65535, 65535)
    path.write_bytes(image)
    os.truncate(path, 5 << 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))
    try:
        assert "statically linked" in program.obstacle(str(path), str(core))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a program of another user")
def test_obstacle_names_set_user_id(tmp_path):
    """The loader ignores LD_PRELOAD when rights are gained; for its own user nothing is gained."""
    core, path = tmp_path / "core.so", tmp_path / "program"
    core.write_bytes(elf())
    path.write_bytes(elf())
    path.chmod(0o4755)
    assert program.obstacle(str(path), str(core)) is None
    os.chown(path, 12345, 0)
    path.chmod(0o4755)
    assert "set-user-id" in program.obstacle(str(path), str(core))


def test_find_looks_up_like_a_shell(tmp_path):
    """127 and 126 have their own exceptions."""
    assert program.find("sh").endswith("/sh")
    with pytest.raises(program.NotFoundError):
        program.find("no-such-program-here")
    with pytest.raises(program.NotFoundError):
        program.find(str(tmp_path / "none"))
    with pytest.raises(program.NotExecutableError):
        program.find(str(tmp_path))
    (tmp_path / "plain").write_text("")
    with pytest.raises(program.NotExecutableError):
        program.find(str(tmp_path / "plain"))
