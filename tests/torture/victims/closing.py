"""A daemon's way: every descriptor is closed, and the numbers are used again."""

import os
import resource
import subprocess
import sys
import threading
import time

resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
stop = threading.Event()


def work():
    while not stop.is_set():
        [bytes(i) for i in range(2000)]
        time.sleep(0.001)


def shown():
    return [fd for fd in range(300) if is_open(fd)]


def is_open(fd):
    try:
        os.fstat(fd)
        return True
    except OSError:
        return False


threading.Thread(target=work).start()
for number in range(5):
    os.closerange(3, 300)
    fds = [os.open(f"file{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for name in range(20)]
    for fd in fds:
        os.write(fd, f"{number} {fd}\n".encode() * 1000)
    kept = [bytearray(i) for i in range(3000)]
    print(shown())
    import importlib

    importlib.import_module(["csv", "json", "decimal", "sqlite3", "zlib"][number])
sys.stdout.flush()
os.closerange(3, 300)
print(subprocess.run([sys.executable, "-S", "-c", "print(6 * 7)"], capture_output=True).stdout)
taken = 0
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
        taken += 1
except OSError as error:
    print(taken, error.errno)
more = [bytes(700) for _ in range(5000)]
stop.set()
