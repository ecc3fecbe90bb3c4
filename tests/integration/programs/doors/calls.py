"""Eight threads call start, stop, configure, mode, status and what else there is; the process forks meanwhile.

usage: calls.py ROUNDS CHILDREN

Each thread makes ROUNDS calls or more, drawn at random. Meanwhile CHILDREN children are forked one after the other,
at random moments; each makes a few calls of its own, is traced in the end and knows that it is. Prints "problems" and
what went wrong, "threads NUMBER", then "end STATE MODE MIN MAX" and "recording PATH" of the process after the last
change of all.
"""

import contextlib
import os
import random
import signal
import sys
import threading

import memleak
from memleak import own

rounds, children = map(int, sys.argv[1:])
problems, forked, finished = [], [], []


def choose(random_number):
    """Return one call; of these, what needs a recording may find none."""
    least = random_number.randint(1, 50)
    return random_number.choice(
        (
            lambda: memleak.start(),
            lambda: memleak.start(least, least + 50, sample_bytes=random_number.choice((0, 1 << 20))),
            lambda: memleak.stop(),
            lambda: memleak.configure(min_sample_interval=least, max_sample_interval=least + 50),
            lambda: memleak.mode("full"),
            lambda: memleak.mode("off"),
            lambda: memleak.mode(),
            lambda: memleak.status(),
            lambda: memleak.is_running(),
            lambda: len(memleak.snapshot().recordings),
            lambda: with_tracing(),
        )
    )


def with_tracing():
    with memleak.tracing(20, 300):
        bytearray(1000)


def call(random_number):
    with contextlib.suppress(memleak.TargetError):  # stopped meanwhile
        choose(random_number)()
    bytearray(random_number.randint(1, 100_000))


def make_calls(seed):
    random_number = random.Random(seed)
    try:
        count = 0
        while count < rounds or len(forked) < children:
            call(random_number)
            count += 1
        finished.append(seed)
    except BaseException as error:
        problems.append(repr(error))


def child(seed):
    signal.alarm(60)  # rather than hang
    random_number = random.Random(seed)
    for _ in range(random_number.randint(0, 5)):
        call(random_number)
    memleak.start()
    status = memleak.status()
    assert memleak.is_running() and (status.state, status.pid) == ("recording", os.getpid()), status
    memleak.mode("full")
    held = [bytearray(1000) for _ in range(200)]
    assert memleak.status().samples >= 100, memleak.status()
    assert len(held) == 200 and memleak.mode() == "full"
    memleak.stop()
    assert not memleak.is_running() and memleak.status().state == "stopped"


memleak.start()  # whatever is imported at first use is there: a child cannot import what another thread was importing
for prepare in (memleak.status, memleak.snapshot, memleak.mode, with_tracing):
    prepare()
sys.setswitchinterval(1e-4)
threads = [threading.Thread(target=make_calls, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
random_number = random.Random(99)
for number in range(children):
    threads[number % 8].join(random_number.random() / 50)
    pid = os.fork()
    if pid == 0:
        try:
            child(1000 + number)
        except BaseException as error:
            os.write(2, f"child {number}: {error!r}\n".encode())
            os._exit(1)
        os._exit(7)
    forked.append(pid)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 7:
        problems.append(f"child {number}: {status}")
for thread in threads:
    thread.join()
memleak.start(3, 30)
memleak.configure(min_sample_interval=7, max_sample_interval=70)
print("problems", *problems)
print("threads", len(finished))
print("end", memleak.status().state, memleak.mode(), *own.requested()[:2])
print("recording", memleak.status().recording)
