"""A recording outlives its program: names are those of the program that ran, or there are none, with the reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

MEMLEAK = [sys.executable, "-m", "memleak"]

# Both versions have a function at each place: names of the wrong one look right.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *kept[200];
__attribute__((noinline)) void @_session_open(int i) { kept[i] = malloc(1000); }
__attribute__((noinline)) void @_request(int i) { @_session_open(i); __asm__ volatile("" ::: "memory"); }
int main(int count, char **words) {
    for (int i = 0; i < 200; i++) @_request(i);
    puts(kept[7] ? "served" : "failed");
    fflush(stdout);
    if (count > 1) pause();
    return 0;
}
"""


class Scene(NamedTuple):
    """A program that ran as version one, and what is left of it."""

    app: Path
    recording: Path
    old: Path  # another file of version one
    build_ids: tuple[str, str]  # of the versions


def build(version: str, directory: Path) -> Path:
    """Compile one version of the program."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source = directory / f"{version}.c"
    source.write_text(PROGRAM.replace("@", version))
    path = directory / version
    flags = ["-g", "-O1", "-fno-optimize-sibling-calls", "-Wl,--build-id=sha1"]
    subprocess.run(["gcc", *flags, "-o", str(path), str(source)], check=True)
    return path


def build_id(path: Path) -> str:
    notes = subprocess.run(["readelf", "-n", str(path)], capture_output=True, text=True, check=True).stdout
    return re.search(r"Build ID: ([0-9a-f]+)", notes)[1]


def memleak(*words: object, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run one verb to its end."""
    environment = {**os.environ, **(environ or {})}
    return subprocess.run([*MEMLEAK, *map(str, words)], capture_output=True, text=True, timeout=60, env=environment)


@pytest.fixture
def scene(tmp_path, runtime_directory) -> Scene:
    """Run version one, which ends; version two takes its place."""
    one, two = build("one", tmp_path), build("two", tmp_path)
    app = tmp_path / "srv/app"
    app.parent.mkdir()
    shutil.copy2(one, app)
    recording = tmp_path / "app.mlrec"
    ran = memleak("run", "--quiet", "--mode", "full", "-o", recording, app)
    assert (ran.returncode, ran.stdout) == (0, "served\n"), ran.stderr
    old = tmp_path / "old/app"
    old.parent.mkdir()
    shutil.copy2(one, old)
    return Scene(app, recording, old, (build_id(one), build_id(two)))


def replace(scene: Scene) -> None:
    os.replace(scene.app.parent.parent / "two", scene.app)


def functions(target: Path, *options: object, environ: dict[str, str] | None = None) -> tuple[list[str], str]:
    """Return the functions of the program's own stack, innermost first, and what was said of symbols."""
    done = memleak("top", target, "--json", "-n", 1, *options, environ=environ)
    assert done.returncode == 0, done.stderr
    frames = json.loads(done.stdout)["rows"][0]["frames"]
    names = [frame["function"] or "?" for frame in frames if frame["module"].endswith("/app")]
    said = memleak("symbolize", target, *options, environ=environ)
    assert said.returncode == 0
    return names[:3], said.stderr


def right(version: str) -> list[str]:
    return [f"{version}_session_open", f"{version}_request", "main"]


def test_names_are_refused_after_the_binary_was_replaced(scene):
    """Both builds are named; libc's frames keep their names."""
    assert functions(scene.recording) == (right("one"), "")
    replace(scene)
    names, said = functions(scene.recording)
    assert names == ["?", "?", "?"]
    old, new = scene.build_ids
    reason = f"binary {scene.app} has build-id {new}, the recording was made with {old}"
    assert said == f"memleak symbolize: {scene.app}: {reason}\n"
    top = memleak("top", scene.recording)
    assert f"symbols: {scene.app}: {reason}" in top.stdout
    assert "two_" not in top.stdout


@pytest.mark.parametrize("option", ["--debug-dir", "--sysroot"])
def test_names_are_right_with_the_old_binary_given(scene, tmp_path, option):
    """As a copy in a directory, or below the root of an old image."""
    replace(scene)
    place = scene.old.parent
    if option == "--sysroot":
        place = tmp_path / "image"
        (place / scene.app.relative_to("/")).parent.mkdir(parents=True)
        shutil.copy2(scene.old, place / scene.app.relative_to("/"))
    assert functions(scene.recording, option, place) == (right("one"), "")


def test_lines_are_those_of_the_old_source(scene):
    """The line of the call, in version one's file."""
    replace(scene)
    done = memleak("top", scene.recording, "--debug-dir", scene.old.parent)
    call = PROGRAM.split("\n").index(next(line for line in PROGRAM.split("\n") if "malloc(1000)" in line)) + 1
    assert f"one_session_open at {scene.old.parent.parent / 'one.c'}:{call}\n" in done.stdout


def test_names_in_the_cache_do_not_outlive_the_binary(scene, tmp_path):
    """Not even the names just shown: the binary at hand is looked at each time."""
    environ = {"MEMLEAK_SYMBOL_CACHE": str(tmp_path / "cache")}
    for _ in range(2):
        assert functions(scene.recording, environ=environ) == (right("one"), "")
    assert os.listdir(tmp_path / "cache")
    replace(scene)
    names, said = functions(scene.recording, environ=environ)
    assert names == ["?", "?", "?"] and "the recording was made with" in said
    assert functions(scene.recording, "--debug-dir", scene.old.parent, environ=environ) == (right("one"), "")


def test_a_bundle_needs_no_binary(scene, tmp_path):
    """Replaced or deleted, the names are those that the bundle was made with."""
    bundle = tmp_path / "app.mlz"
    assert memleak("bundle", scene.recording, "-o", bundle).returncode == 0
    replace(scene)
    assert functions(bundle) == (right("one"), "")
    scene.app.unlink()
    scene.old.unlink()
    assert functions(bundle) == (right("one"), "")
    assert "one_session_open" in memleak("postmortem", bundle).stdout


def test_a_bundle_made_too_late_says_so(scene, tmp_path):
    """The program's own names are refused, libc's are there; with the old binary all are."""
    replace(scene)
    bundle = tmp_path / "late.mlz"
    done = memleak("bundle", scene.recording, "-o", bundle)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1 and "the recording was made with" in done.stderr
    names, said = functions(bundle)
    assert names == ["?", "?", "?"] and "when it was bundled: " in said
    again = memleak("bundle", scene.recording, "-o", bundle, "--force", "--debug-dir", scene.old.parent)
    assert (again.returncode, again.stderr) == (0, "")
    scene.old.unlink()
    assert functions(bundle) == (right("one"), "")


def test_a_running_process_is_bundled(tmp_path, runtime_directory, core_path):
    """By its pid, while it runs; what it died of is not asked of that bundle."""
    one = build("one", tmp_path)
    environ = {**os.environ, "LD_PRELOAD": core_path, "MEMLEAK": "1", "MEMLEAK_MODE": "full"}
    process = subprocess.Popen([one, "wait"], stdout=subprocess.PIPE, env=environ)
    try:
        assert process.stdout.readline() == b"served\n"
        deadline = time.monotonic() + 20
        while memleak("status", process.pid).returncode != 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        bundle = tmp_path / "live.mlz"
        done = memleak("bundle", process.pid, "-o", bundle)
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    one.unlink()
    assert "one_session_open at " in memleak("top", bundle).stdout
    assert memleak("postmortem", bundle).stderr.count("were running when it was made") == 1
