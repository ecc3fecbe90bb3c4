"""Run a scenario under `memleak run`, kill it, and ask `memleak verdict` of its recording alone."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from truth import PROGRAMS, ROOT, Scenario

from memleak import query
from memleak.verdict import LEAK, SATURATING

MEMLEAK = [sys.executable, "-m", "memleak"]
STORED_CURSOR = PROGRAMS.parent.parent / "database"
HEADERS = ROOT / "native/include"
STARTS_S, ANSWERS_S = 60.0, 120.0
EMPTIEST = 5  # regions of a pool that are told
RATE_FULL = 0.05  # of the true rate, where every allocation was recorded: what a window's edges are off by


class Outcome(NamedTuple):
    """What was found of a scenario, and what of it was wrong."""

    scenario: Scenario
    mode: str
    found: str  # the verdict at the blamed line
    blamed: tuple[int | None, ...]  # lines of it at which something leaks, the fastest first; None: no line of it
    rate: dict | None
    level: dict | None
    above: float | None  # of the forecast
    samples: int  # of the greatest stack there
    pool: dict | None  # found of an allocator of its own: idle_share of true_idle_share, mismatches of true_mismatches
    lost: dict
    wrong: tuple[str, ...]


def build(scenario: Scenario, directory: Path) -> list[str]:
    """Return the command of a scenario's program, compiled if need be."""
    if scenario.source.suffix == ".py":
        return [sys.executable, str(scenario.source)]
    binary = directory / scenario.source.stem
    flags = ["-D_GNU_SOURCE", "-g", "-O1", "-fno-inline", "-fno-builtin", "-Wall", "-Wextra", "-Werror"]
    libraries = ["-pthread", "-lm"]
    if not binary.exists():
        subprocess.run(["gcc", *flags, f"-I{HEADERS}", "-o", str(binary), str(scenario.source), *libraries], check=True)
    return [str(binary)]


def run(
    scenario: Scenario,
    mode: str,
    seconds: float,
    command: list[str],
    words: dict[str, str],
    seed: int = 1,
    keep: Path | None = None,
) -> Outcome:
    """Let a program run for so long, kill it, and judge it.

    Args:
        scenario: which.
        mode: full or normal.
        seconds: how long.
        command: of the program, as `build` returned it.
        words: what stands for names in braces in its arguments.
        seed: of the sampling.
        keep: a directory in which its recording is left, under the scenario's name.
    """
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    home = Path(tempfile.mkdtemp(prefix="memleak-test-", dir=base))
    try:
        recording = _killed(scenario, mode, seconds, command, words, home, seed)
        if keep is not None:
            shutil.copyfile(recording, kept_at(scenario, keep))
        return rejudge(scenario, mode, recording)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def kept_at(scenario: Scenario, directory: Path) -> Path:
    """Return where a scenario's recording is kept."""
    return directory / f"{re.sub(r'[^a-z0-9]+', '-', scenario.name.lower())}.mlrec"


def rejudge(scenario: Scenario, mode: str, recording: Path) -> Outcome:
    """Judge a scenario by its recording."""
    found = _judged(scenario, mode, _ask(recording))
    if scenario.pool is None:
        return found
    seen, wrong = _pool(scenario, mode, recording)
    return found._replace(pool=seen, wrong=(*found.wrong, *wrong))


def _killed(
    scenario: Scenario, mode: str, seconds: float, command: list[str], words: dict[str, str], home: Path, seed: int
) -> Path:
    """Run the program and kill it; return its recording."""
    variables = {
        **os.environ, "MEMLEAK_DIR": str(home), "MEMLEAK_SEED": str(seed), "MEMLEAK_ROOM": "128M",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(STORED_CURSOR), os.environ.get("PYTHONPATH")))),
        "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    arguments = [word.format(**words) for word in scenario.arguments]

    def limit() -> None:
        if scenario.limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (scenario.limit, scenario.limit))

    launcher = subprocess.Popen(
        [*MEMLEAK, "run", "--quiet", "--mode", mode, *command, *arguments], env=variables, preexec_fn=limit
    )
    pid = None
    try:
        began = time.monotonic()
        while pid is None:
            (*found,) = home.glob("*.mlrec")
            pid = int(found[0].name.split("-")[0]) if found else None
            assert launcher.poll() is None, f"{scenario.name}: it ended with {launcher.returncode}"
            assert time.monotonic() - began < STARTS_S, f"{scenario.name}: no recording"
            time.sleep(0.05)
        try:
            status = launcher.wait(seconds)
            raise AssertionError(f"{scenario.name}: it ended by itself, with {status}")
        except subprocess.TimeoutExpired:
            pass
    finally:
        if pid is not None and launcher.poll() is None:
            os.kill(pid, signal.SIGKILL)
        elif launcher.poll() is None:
            launcher.kill()
        launcher.wait()
    (recording,) = home.glob("*.mlrec")
    return recording


def _ask(recording: Path) -> tuple[int, dict]:
    """Return the status and the answer of `memleak verdict`: what grows comes first, then the greatest."""
    return _said("verdict", str(recording), "--all", "-n", "60", "--json")


def _said(*words: str) -> tuple[int, dict]:
    done = subprocess.run([*MEMLEAK, *words], capture_output=True, text=True, timeout=ANSWERS_S)
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


def _judged(scenario: Scenario, mode: str, answer: tuple[int, dict]) -> Outcome:
    """Compare what was found with the truth."""
    status, said = answer
    placed = [(_line(one["row"]["mixed_trace"], scenario), one) for one in said["verdicts"]]
    at_line = [one for line, one in placed if line == scenario.line]
    leaks = [(line, one) for line, one in placed if one["verdict"] == LEAK]
    main = max(at_line, key=lambda one: one["row"]["est_bytes"], default=None)
    found = main["verdict"] if main is not None else "nothing"
    rate = _added([one["rate"] for one in at_line if one["verdict"] in (LEAK, SATURATING)])
    level = main["level"] if main is not None else None
    forecast = said["forecast"]
    above = forecast["levels_above"] if forecast is not None else None

    lost = {name: number for name, number in said["footer"]["dropped"].items() if number}
    wrong = []
    if found not in scenario.verdicts:
        wrong.append(f"{found} at {scenario.place}: {main['evidence'] if main is not None else 'no samples'}")
    for line, one in leaks:
        if line not in (scenario.line, *scenario.with_it) or not scenario.leaks:
            wrong.append(f"leak at {' < '.join((one['row']['mixed_trace'] or '').split(' < ')[:8])}: {one['evidence']}")
    if status != (3 if leaks else 0):
        wrong.append(f"status {status}")
    if scenario.rate is not None and not _holds(scenario.rate, rate, mode):
        wrong.append(f"rate {rate}")
    if scenario.least is not None and (rate is None or not scenario.least <= rate["value"] <= 1.5 * scenario.least):
        wrong.append(f"rate {rate}")
    if scenario.level is not None and found == SATURATING and not _holds(scenario.level, level, "normal"):
        wrong.append(f"level {level}")
    if scenario.above is not None and (above is None or not scenario.above / 2 < above < scenario.above * 2):
        wrong.append(f"forecast {forecast}")
    lines = tuple(dict.fromkeys(line for line, _ in leaks))  # the fastest first
    return Outcome(
        scenario, mode, found, lines, rate, level, above,
        main["row"]["samples"] if main is not None else 0, None, lost, tuple(wrong),
    )  # fmt: skip


def _pool(scenario: Scenario, mode: str, recording: Path) -> tuple[dict, list[str]]:
    """Return what is found of a program's own allocator, and what of it is wrong."""
    true = scenario.pool
    seconds = query.open(recording).recordings[0].header.end_cs / 100
    used, mismatches = true.used + true.grows * seconds, true.mismatches * seconds
    wrong = []
    _, said = _said("pools", str(recording), "--json")
    found = next((one for one in said["pools"] if one["name"] == true.name), None)
    if found is None:
        return {}, [f"no pool {true.name}"]
    if found["capacity_bytes"] != true.capacity:
        wrong.append(f"capacity {found['capacity_bytes']}")
    low, high = (used * (1 - RATE_FULL), used * (1 + RATE_FULL)) if mode == "full" else (used, used)
    if not (found["est_bytes_low"] <= high and low <= found["est_bytes_high"]):
        wrong.append(f"used {found['est_bytes']} [{found['est_bytes_low']}, {found['est_bytes_high']}] of {used:.0f}")
    emptiest = [one for one in found["use"] if one["samples"]][:EMPTIEST]
    pinned = [any(_line(pin["mixed_trace"], scenario) == true.pins for pin in one["pins"]) for one in emptiest]
    if not (all(pinned) if mode == "full" else any(pinned)):
        wrong.append(f"what keeps the emptiest regions: {pinned}")
    _, said = _said("mismatches", str(recording), "--all", "--json")
    kinds = [(one["kind"], one["undecided"]) for one in said["mismatches"]]
    if kinds != [(true.mismatch, "")]:
        return found, [*wrong, f"mismatches {kinds}"]
    (one,) = said["mismatches"]
    allocated = _line(one["allocated"]["mixed_trace"], scenario)
    freed = _line(" < ".join(one["freed_trace"]), scenario, true.freed)
    if (allocated, freed) != (true.allocated, true.freed):
        wrong.append(f"mismatch: allocated at {allocated}, freed at {freed}")
    off = abs(one["est_count"] - mismatches)
    if off > (RATE_FULL * mismatches if mode == "full" else 4 * mismatches / one["samples"] ** 0.5):
        wrong.append(f"{one['est_count']:.0f} mismatches of {mismatches:.0f}")
    return {
        "idle_share": found["idle_share"], "true_idle_share": 1 - used / true.capacity,
        "mismatches": one["est_count"], "true_mismatches": mismatches,
    }, wrong  # fmt: skip


def _line(trace: str | None, scenario: Scenario, wanted: int | None = None) -> int | None:
    """Return the innermost line of a stack in the program, or a wanted one; its own allocator's are passed over."""
    found = [int(number) for number in re.findall(rf"[ (]{re.escape(str(scenario.source))}:(\d+)", trace or "")]
    if wanted is not None:
        return wanted if wanted in found else None
    own = scenario.pool.gives_out if scenario.pool is not None else ()
    return next((number for number in found if number not in own), None)


def _added(rates: list[dict]) -> dict | None:
    """Return the sum of rates; its limits are the sums of theirs."""
    if not rates:
        return None
    return {
        key: sum(one[key] if one[key] is not None else one["value"] for one in rates)
        for key in ("value", "low", "high")
    }


def _holds(truth: float, said: dict | None, mode: str) -> bool:
    """Whether the truth is where it is said to be."""
    if said is None:
        return False
    if mode == "full":
        return abs(said["value"] / truth - 1) <= RATE_FULL
    return said["low"] <= truth and (said["high"] is None or truth <= said["high"])
