"""What must work under every CPython; run by test_versions.py in an environment of its own.

Needs the installed package and nothing else, so that old and new interpreters are tested alike.
"""

import os
import subprocess
import sys
import tempfile

IMPORT_DOOR = """
import ctypes, os, sys
import memleak
assert memleak.is_running() == (os.environ.get("MEMLEAK") == "1")
memleak.start(1, 1, recording=sys.argv[1])
assert memleak.mode() == "full"
malloc = ctypes.CDLL(None).malloc
for _ in range(64):  # a thread follows new knobs within so many
    malloc(1)
held = [malloc(5000) for _ in range(2000)]
status = memleak.status()
assert (status.state, status.door) == ("recording", "import"), status
assert status.live_malloc.value >= 5000 * 2000, status
assert status.coverage.hooked >= 1, status
pid = os.fork()
if pid == 0:
    assert memleak.status().recording != status.recording
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
with memleak.tracing(max_sample_interval=50):
    memleak.configure(min_sample_interval=5)
assert memleak.mode() == "full"
memleak.stop()
assert memleak.status().state == "stopped" and not memleak.is_running()
assert sum(row.est_bytes for row in memleak.snapshot().rows()) >= 5000 * 2000
assert sum(row.est_bytes for row in memleak.open(sys.argv[1]).rows()) >= 5000 * 2000
print("out")
"""


def main():
    """Trace this interpreter doing native work, through either door, read the recording back, print "fine"."""
    import memleak
    from memleak import _native, locate, query

    assert "_cffi_backend" not in sys.modules, "import memleak loads nothing heavy"
    assert len(_native.build_id()) == 40
    assert not memleak.is_running()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="memleak-compat-", dir=base) as directory:
        os.environ["MEMLEAK_DIR"] = directory
        os.chmod(directory, 0o700)
        code = "import ctypes; c = ctypes.CDLL(None); [c.malloc(5000) for _ in range(2000)]; print('out')"
        run = [sys.executable, "-m", "memleak", "run", "--mode", "full", sys.executable, "-c", code]
        done = subprocess.run(run, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "out\n"), done
        assert "own cost" in done.stderr, done.stderr
        assert len(locate.list_recordings([directory])) == 1
        held = sum(row.est_bytes for row in query.open(directory).rows())
        assert held >= 5000 * 2000, held
        top = subprocess.run(
            [sys.executable, "-m", "memleak", "top", directory, "-n", "1"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert top.returncode == 0 and "SAMPLED" in top.stdout, top
        os.environ["MEMLEAK_PYTHON"] = "0"  # frames and small objects: test_python_stacks.py, test_python_domains.py
        for options in ([], ["-W", "error"], ["-I"]):
            for switch in ("0", "1"):  # memleak.pth starts it with 1
                os.environ["MEMLEAK"] = switch
                words = [sys.executable, *options, "-c", IMPORT_DOOR, os.path.join(directory, "copy")]
                done = subprocess.run(words, capture_output=True, text=True)
                assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", ""), done
    print("fine")


if __name__ == "__main__":
    main()
