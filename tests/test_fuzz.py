"""The fuzz targets: what is kept of earlier runs is read without harm, and so is a little more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fuzzbuild
import fuzzing
import pytest

LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
CORPUS_BYTES_MOST = 1 << 20
SECONDS = 60.0 if LONG else 1.0  # a target; a long run is ./fuzz
SEED = 1

pytestmark = pytest.mark.timeout(600)


def broken(result: fuzzing.Result) -> str:
    """Return what a run said of the input that broke its target."""
    return "\n".join([*map(str, result.crashes), result.output[-6000:]])


def needs_compiler(target: str | None = None) -> None:
    """Skip where nothing can be built, or this target cannot."""
    obstacle = fuzzbuild.obstacle_of(target) if target else fuzzbuild.obstacle()
    if obstacle:
        pytest.skip(obstacle)


@pytest.mark.parametrize("target", fuzzbuild.targets())
def test_core(target, tmp_path, record_property):
    """No fault, no report of a sanitizer, and what the target itself checks."""
    needs_compiler(target)
    replayed = fuzzing.run(target, 0, tmp_path)
    assert not replayed.crashes, broken(replayed)
    assert replayed.executions >= replayed.kept > 0
    result = fuzzing.run(target, SECONDS, tmp_path, seed=SEED)
    assert not result.crashes, broken(result)
    assert result.executions >= result.kept
    record_property("fuzz executions", replayed.executions + result.executions)


@pytest.mark.parametrize("target", fuzzing.package_targets())
def test_package(target, tmp_path, record_property):
    """An answer or a MemleakError, in the time and memory that the rule allows."""
    replayed = fuzzing.run(target, 0, tmp_path, engine="random")
    assert not replayed.crashes, broken(replayed)
    assert replayed.executions == replayed.kept > 0
    result = fuzzing.run(target, SECONDS, tmp_path, seed=SEED, engine="random")
    assert not result.crashes, broken(result)
    assert result.executions > result.kept
    record_property("fuzz executions", replayed.executions + result.executions)


def test_corpus_is_small_and_has_no_strangers():
    """Below 1 MB in all; each archive, and each directory of inputs that broke something, is a target's."""
    files = [path for path in fuzzing.CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < CORPUS_BYTES_MOST
    targets = {*fuzzbuild.targets(), *fuzzing.package_targets()}
    assert {path.stem for path in fuzzing.CORPUS.glob("*.zip")} == targets
    assert {path.name for path in fuzzing.CORPUS.iterdir() if path.is_dir()} <= targets


def test_a_fault_in_c_is_noticed(tmp_path, monkeypatch):
    """A target that reads beyond its input ends with that input in hand."""
    needs_compiler()
    source = tmp_path / "fuzz_beyond.c"
    source.write_text(
        "#include <stdint.h>\n#include <stdlib.h>\n#include <string.h>\n"
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)\n"
        "{\n\tchar *own = malloc(bytes + 1);\n\tvolatile char last = 0;\n\tif (bytes) {\n\t\tmemcpy(own, data, bytes);\n"
        "\t\tlast = own[bytes + 1];\n\t}\n\tfree(own);\n\treturn last > 127;\n}\n"
    )
    monkeypatch.setattr(fuzzbuild, "HOME", tmp_path)
    result = fuzzing.run("beyond", 5, tmp_path, seed=SEED)
    assert len(result.crashes) == 1 and "heap-buffer-overflow" in result.output


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('no')", "KeyError"),
        ("while True: pass", "TooSlow"),
        ("bytearray(600 << 20)", "MemoryError"),
    ],
)
def test_the_rule_is_kept_by_force(tmp_path, body, words):
    """Another exception, more than 2 s and more than 512 MB each end a run, with the input in hand."""
    for name in ("pyfuzz.py", "editing.py", "rule.py"):
        (tmp_path / name).write_text((fuzzing.HOME / name).read_text())
    target = f"def breaks(data):\n    if data:\n        {body}\nTARGETS = {{'breaks': breaks}}\n"
    (tmp_path / "pytargets.py").write_text(target)
    done = started(tmp_path, "breaks", "-max_total_time=5", "-engine=random", f"-artifact_prefix={tmp_path}/")
    assert done.returncode == 77 and words in done.stderr
    assert len(list(tmp_path.glob("crash-*"))) == 1


def started(directory: Path, *words: str):
    """Run a copy of pyfuzz.py."""
    command = [sys.executable, directory / "pyfuzz.py", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)
