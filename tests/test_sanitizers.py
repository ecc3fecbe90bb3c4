"""The C tests of tables and of damaged objects once more under Thread-, Address- and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nativebuild
import pytest

SANITIZERS = {
    "thread": ["-fsanitize=thread"],
    "address,undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
# Each is run with --short, in the long form of ./test too: a tenth of the operations, a hundredth of the speed.
PROGRAMS = ["test_liveset", "test_outcome", "test_index", "test_regions", "test_relocs"]
if os.environ.get("MEMLEAK_TORTURE") == "1":
    PROGRAMS = sorted(path.stem for path in (Path(__file__).parent / "native").glob("test_*.c"))
# Threads that stand still for ever, children of processes with threads, and what takes minutes there.
NOT_BY_THREADS = {"test_boot", "test_lockfree", "test_lockfree_tracer", "test_objects", "test_pycode", "test_slots"}
# What a runtime says that cannot live with this kernel's address space layout.
NO_RUNTIME = ("unexpected memory mapping", "Shadow memory range interleaves", "failed to intercept")


@pytest.fixture(scope="module", params=SANITIZERS)
def sanitized_core(request, tmp_path_factory) -> tuple[list[str], list[str]]:
    """Compile the core with one sanitizer; return (compiler command, objects)."""
    directory = nativebuild.cache() / request.param
    directory.mkdir(exist_ok=True)
    flags = [flag for flag in nativebuild.flags() if not flag.startswith(("-W", "-mgeneral"))]
    command = ["gcc", *flags, "-O1", *SANITIZERS[request.param], f"-I{nativebuild.NATIVE / 'src'}"]
    probe = tmp_path_factory.mktemp("probe") / "probe"
    probe.with_suffix(".c").write_text("int main(void) { return 0; }\n")
    built = subprocess.run([*command, "-o", str(probe), f"{probe}.c"], capture_output=True, text=True)
    if built.returncode != 0 or subprocess.run([str(probe)], capture_output=True).returncode != 0:
        pytest.skip(f"no {request.param} sanitizer on this machine")
    newest = max(path.stat().st_mtime_ns for path in [*nativebuild.headers(), nativebuild.NATIVE / "meson.build"])
    objects = []
    for source in nativebuild.core_sources():
        target = directory / f"{source.stem}.o"
        if not target.exists() or target.stat().st_mtime_ns < max(newest, source.stat().st_mtime_ns):
            nativebuild.make(target, [*command, "-c", str(source)])
        objects.append(str(target))
    return command, objects


@pytest.mark.parametrize("name", PROGRAMS)
def test_sanitized(sanitized_core, tmp_path, record_property, name):
    """No report, and the same checks pass."""
    command, objects = sanitized_core
    if "-fsanitize=thread" in command and name in NOT_BY_THREADS:
        pytest.skip("not for the thread sanitizer")
    source = Path(__file__).parent / "native" / f"{name}.c"
    program = tmp_path / name
    asked = nativebuild.directives(source)
    left_out = (nativebuild.LEFT_OUT | set(asked["without"])) - set(asked["with"])
    parts = [path for path in objects if Path(path).stem not in left_out]
    nativebuild.run([*command, f"-I{source.parent}", "-o", str(program), str(source), *parts, "-pthread", "-lm", "-ldl", *asked["flags"]])
    done = subprocess.run([str(program), "--short"], capture_output=True, text=True, timeout=300)
    if any(words in done.stderr for words in NO_RUNTIME):
        pytest.skip("no sanitizer runtime for this machine's address space")
    assert done.returncode == 0, done.stderr[:6000]
    record_property("programs under sanitizers", 1)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr[:6000]
