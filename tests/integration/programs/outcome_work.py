"""50 tasks and 20 threads at a time under the same labels, of which some fail; a block's size tells whose it is.

Block sizes are BASE + STEP * owner, in three ways: Python's objects, C code with the GIL released, and functions handed
to a thread of an executor. Half of the blocks are freed again, by other threads, while their owners are at work or fail.
Prints the sizes and numbers of the blocks that are left, and waits.
"""

import asyncio
import collections
import ctypes
import json
import queue
import random
import sys
import threading

import memleak

TASKS, THREADS, ROUNDS = 50, 20, 30
STEP = 16
OBJECT, DRIVER, POOLED = 10_000, 20_000, 30_000
FAILURES = [None, ValueError, None, KeyError, asyncio.CancelledError, None]  # of owner % 6
left = collections.Counter()
kept = []
to_free = queue.Queue()

libc = ctypes.CDLL(None)  # releases the GIL
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def block(size):
    """Allocate in C, without the GIL; half of these are for others to free."""
    address = libc.malloc(size)
    if random.random() < 0.5:
        to_free.put((address, size))
    else:
        left[size] += 1


def allocate(owner):
    """Allocate an object and a block."""
    kept.append(bytearray(OBJECT + STEP * owner - 1))  # one more for the NUL
    left[OBJECT + STEP * owner] += 1
    block(DRIVER + STEP * owner)


def free():
    """Free what others have allocated, a little later."""
    while True:
        address, _ = to_free.get()
        if address is None:
            return
        libc.free(address)


def fail(owner):
    """Raise what this owner ends with."""
    kind = FAILURES[owner % len(FAILURES)]
    if kind is not None:
        raise kind


SAME = memleak.label(sql="SELECT ?", outcome=True)


async def task(owner):
    """Work, one await after the other, and end."""
    try:
        with SAME:
            for _ in range(ROUNDS):
                allocate(owner)
                await asyncio.sleep(random.random() / 500)
                with memleak.label(step="fetch"):
                    await asyncio.sleep(0)
                    allocate(owner)
                if owner % 10 == 0:
                    await asyncio.get_running_loop().run_in_executor(None, block, POOLED + STEP * owner)
            fail(owner)
    except BaseException as error:
        assert type(error) is FAILURES[owner % len(FAILURES)]


def thread(owner):
    """Work in a thread, and end."""
    try:
        with memleak.label(sql="SELECT ?", outcome=True):
            for _ in range(ROUNDS):
                allocate(owner)
            fail(owner)
    except BaseException as error:
        assert type(error) is FAILURES[owner % len(FAILURES)]


def main():
    """Start them all."""
    with memleak.label(who="first"):  # from here on labels are followed: that takes some milliseconds, once
        pass
    freeing = [threading.Thread(target=free) for _ in range(3)]
    threads = [threading.Thread(target=thread, args=(owner,)) for owner in range(TASKS, TASKS + THREADS)]

    async def all_tasks():
        for each in (*freeing, *threads):
            each.start()
        await asyncio.gather(*(task(owner) for owner in range(TASKS)))

    asyncio.run(all_tasks())
    for each in threads:
        each.join()
    for _ in freeing:
        to_free.put((None, 0))
    for each in freeing:
        each.join()
    print(json.dumps(left), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
