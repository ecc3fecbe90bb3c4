"""A little of everything that makes us call the kernel: threads, a fork, extension modules, memory."""

import os
import threading
import time


def work():
    kept = [bytes(i) for i in range(2000)]
    time.sleep(0.01)
    return kept


threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
import decimal
import sqlite3

for thread in threads:
    thread.join()
pid = os.fork()
if pid == 0:
    work()
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
base = sqlite3.connect(":memory:")
print(base.execute("SELECT 6 * 7").fetchone(), decimal.Decimal(2).sqrt())
big = bytearray(50_000_000)
print(len(big), len(work()))
