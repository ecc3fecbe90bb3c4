"""Run fuzz targets, in C and of the package: for a time, or over what is kept of earlier runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import columnseeds
import fuzzbuild

HOME = Path(__file__).resolve().parent
CORPUS = HOME / "corpus"
INPUT_BYTES_MOST = {"elfimage": 3072, "relocs": 3072, "cfi": 1024, "symbolize": 4096}
BY_EDGES = {"symbolize", "symbols", "columns"}  # of these an input is kept for code that it runs, not for how often: they are large  # others: a few changes, or a few words
# First inputs that are all kept: one that asks for one byte too many runs the same code as one that asks for a hundred.
FIRST = {"columns": columnseeds.inputs}
GRACE_S = 120  # what a run may take beyond its time


class Result(NamedTuple):
    """What came of a run."""

    target: str
    executions: int
    seconds: float
    corpus: int  # inputs in it
    kept: int  # inputs it began with, that are kept with the tests
    crashes: list[Path]
    output: str


def package_targets() -> list[str]:
    """Return the names of the targets in Python."""
    text = (HOME / "pytargets.py").read_text()
    return sorted(re.findall(r"^def fuzz_(\w+)\(", text, flags=re.MULTILINE))


def kept(target: str, into: Path) -> list[Path]:
    """Unpack the inputs that are kept of a target, those that broke it once too, as all of the directory *into*."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    archive = CORPUS / f"{target}.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(into)
    for number, data in enumerate(FIRST.get(target, list)()):
        (into / f"first-{number}").write_bytes(data)
    for path in (CORPUS / target).glob("*"):
        shutil.copy(path, into)
    return sorted(into.iterdir())


def keep(target: str, inputs: Iterable[Path]) -> int:
    """Make the archive of *inputs* anew, the same from the same; return its size in bytes."""
    archive = CORPUS / f"{target}.zip"
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in sorted({path.name[:16]: path.read_bytes() for path in inputs}.items()):
            packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return archive.stat().st_size


def command(target: str, *, engine: str = "") -> list[str]:
    """Return how the target is started; builds it if it is one in C."""
    if target in package_targets():
        return [sys.executable, str(HOME / "pyfuzz.py"), target, *([f"-engine={engine}"] if engine else [])]
    return [str(fuzzbuild.build(target)), "-rss_limit_mb=1024", "-timeout=60", "-report_slow_units=60", "-close_fd_mask=1"]


def run(target: str, seconds: float, work: Path, *, seed: int = 0, engine: str = "") -> Result:
    """Fuzz for so many seconds, or only replay what is kept for 0; what is found goes to *work*.

    The first input that breaks a target ends its run.
    """
    corpus, found = work / target / "corpus", work / target / "crashes"
    corpus.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    inputs = kept(target, work / target / "kept")
    # By a shell that forks: a program begins with the peak of memory of whoever executes it, and that may be large.
    words = ["sh", "-c", '"$@"; exit $?', "sh", *command(target, engine=engine), f"-artifact_prefix={found}/"]
    if seconds:
        most = INPUT_BYTES_MOST.get(target, 1024)
        words += [f"-max_total_time={seconds:g}", f"-max_len={most}", "-len_control=0", f"-seed={seed}"]
        words += [str(corpus), *({str(path.parent) for path in inputs})]
    else:
        words += ["-runs=0", *map(str, inputs)]
    began = time.monotonic()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ASAN_OPTIONS": "abort_on_error=0"}
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    try:
        output = process.communicate(timeout=seconds + GRACE_S)[1].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[1].decode("utf-8", "replace") + "\nit did not end"
    seconds_taken = time.monotonic() - began
    crashes = sorted(found.iterdir())
    if process.returncode != 0 and not crashes:
        (found / "without-an-input").write_text(output)
        crashes = [found / "without-an-input"]
    counts = [int(number) for number in re.findall(r"^#(\d+)\s", output, flags=re.MULTILINE)]
    executions = counts[-1] if seconds and counts else len(re.findall(r"^Executed ", output, flags=re.MULTILINE))
    if not seconds and counts:
        executions = max(executions, counts[-1])
    return Result(target, executions, seconds_taken, len(list(corpus.iterdir())), len(inputs), crashes, output)


def minimise(target: str, work: Path) -> int:
    """Keep of all inputs the fewest that run the same code; return how many bytes they are, packed."""
    with tempfile.TemporaryDirectory(dir=work) as directory:
        words = [*command(target), "-merge=1", "-len_control=0", f"-max_len={INPUT_BYTES_MOST.get(target, 1024)}"]
        words += ["-use_counters=0"] if target in BY_EDGES else []
        merged, old = Path(directory, "merged"), Path(directory, "old")
        merged.mkdir()
        kept(target, old)
        subprocess.run([*words, str(merged), str(work / target / "corpus"), str(old)], check=True, capture_output=True)
        return keep(target, merged.iterdir())
