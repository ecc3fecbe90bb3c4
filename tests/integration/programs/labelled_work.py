"""200 tasks and 50 threads at a time, each under its own label; what a block is asked for tells whose it is.

Block sizes are BASE + STEP * owner, in three ways: Python's objects, C code with the GIL released, and functions handed
to a thread of an executor. Prints "ready" and waits.
"""

import asyncio
import contextvars
import ctypes
import random
import sys
import threading

import memleak

TASKS, THREADS, ROUNDS = 200, 50, 12
STEP = 8
OBJECT, DRIVER, POOLED, NOBODYS = 10_000, 20_000, 30_000, 40_000
kept = []

libc = ctypes.CDLL(None)  # releases the GIL
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]


def allocate(owner):
    """Return a block of each kind but the pooled one."""
    kept.append(bytearray(OBJECT + STEP * owner - 1))  # one more for the NUL
    kept.append(libc.malloc(DRIVER + STEP * owner))


def pooled(owner):
    """Allocate in another thread."""
    kept.append(libc.malloc(POOLED + STEP * owner))


async def task(owner):
    """Work under a label, one await after the other."""
    with memleak.label(owner=owner, kind="task"):
        for _ in range(ROUNDS):
            allocate(owner)
            await asyncio.sleep(random.random() / 500)
            with memleak.label(kind="task"):  # the same set once more
                await deeper(owner)
            if owner % 10 == 0:
                await asyncio.get_running_loop().run_in_executor(None, pooled, owner)
    kept.append(libc.malloc(NOBODYS))


async def deeper(owner):
    """Allocate further in, after another task had its turn."""
    await asyncio.sleep(0)
    allocate(owner)


def thread(owner, turn):
    """Work under a label that was set here, or by who started this thread."""
    if turn.wait(60):
        for _ in range(ROUNDS):
            allocate(owner)


def main():
    """Start them all."""
    turn = threading.Event()
    threads = []
    for owner in range(TASKS, TASKS + THREADS):
        with memleak.label(owner=owner):
            threads.append(threading.Thread(target=thread, args=(owner, turn)))
            threads[-1].start()

    async def all_tasks():
        turn.set()
        await asyncio.gather(*(task(owner) for owner in range(TASKS)))

    for number in range(60):  # so that the map of context variables has more than one level
        contextvars.ContextVar(f"other {number}").set(number)
    asyncio.run(all_tasks())
    for each in threads:
        each.join()
    kept.append(libc.malloc(NOBODYS))
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
