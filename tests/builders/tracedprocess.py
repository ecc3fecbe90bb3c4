"""A process that maps a recording as a traced one does, without the core.

    with traced_process(directory) as (process, path):
        ...

It maps the file MAP_SHARED, and when told to, adopts requested knobs as the core would, or changes them itself.
"""

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

from recordingwriter import RecordingWriter

CHILD = """
import mmap, os, select, sys
fd = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(fd, 0)
os.close(fd)
if sys.argv[2] == "delete":
    os.unlink(sys.argv[1])
if sys.argv[2] == "fork" and os.fork():
    os.wait()
    os._exit(0)
requested, effective, requested_bytes, effective_bytes, *python = (int(a) // 8 for a in sys.argv[3:])
words = memoryview(view).cast("Q")
before, other = words[requested], 9 | 90 << 16 | 3 << 32
print(os.getpid(), flush=True)
while not select.select([0], [], [], 0.005)[0]:
    if sys.argv[2] == "adopt" and words[effective] != words[requested]:
        words[effective_bytes] = words[requested_bytes]
        words[effective] = words[requested]
    if sys.argv[2] in ("overtake", "collide") and words[requested] != before:
        words[effective] = other
        if sys.argv[2] == "overtake":
            words[requested] = other
        before = words[requested]
    if sys.argv[2] == "adopt" and any(python):
        words[python[1]] = words[python[0]]
"""


def boot_id():
    """The boot id of this machine."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


def start_ticks(pid):
    """Field 22 of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def _with_gauges(writer, gauges):
    if gauges is not None:
        writer.gauges[0] = []
        for name, value, *place in gauges:
            order, state = place or (1, 2)
            writer.gauge(name, value, order=order, state=state)
    return writer


@contextlib.contextmanager
def traced_process(directory, *, how="plain", name=None, offsets=(0, 0, 0, 0), gauges=None, **header):
    """Yield (process, path of its recording).

    *how* is plain, adopt, delete, fork, or what befalls the first request: overtake, by another that the process itself
    makes and adopts, or collide, with one that it had made and adopts just now. *gauges* are (name, value) and perhaps the order of
    the segment and the state; there is room for more of them then.
    """
    path = Path(directory) / (name or "pending.mlrec")
    path.write_bytes(_with_gauges(RecordingWriter(boot_id=boot_id(), **header), gauges).bytes())
    fd = os.open(path, os.O_WRONLY)  # reaches the file also when the child has deleted it
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), how, *map(str, offsets)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        if not select.select([process.stdout], [], [], 30)[0]:
            raise TimeoutError("the child did not start")
        process.traced_pid = int(process.stdout.readline())
        # As the core names it: in place, so that the mapping stays.
        writer = RecordingWriter(
            pid=process.pid, start_ticks=start_ticks(process.pid), boot_id=boot_id(),
            pid_namespace=os.stat("/proc/self/ns/pid").st_ino, **header,
        )  # fmt: skip
        os.pwrite(fd, _with_gauges(writer, gauges).bytes()[:4096], 0)
        yield process, path
    finally:
        os.close(fd)
        process.stdin.close()
        process.stdout.close()
        process.wait(30)

