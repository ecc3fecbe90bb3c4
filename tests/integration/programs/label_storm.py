"""Contexts made, entered, filled and dropped by many threads and tasks while each third allocation is sampled.

Ends while daemon threads are at it, with and without the GIL. The argument: for how many seconds.
"""

import asyncio
import contextvars
import ctypes
import gc
import random
import sys
import threading
import time

import memleak

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
VARIABLES = [contextvars.ContextVar(f"v{number}") for number in range(300)]
LABELS = [memleak.label(n=number) for number in range(100)]
OUTCOMES = [memleak.label(m=number, outcome=True) for number in range(3)]
failed = []
END = time.monotonic() + float(sys.argv[1])


def block(size):
    """Allocate and free in C, without the GIL."""
    libc.free(libc.malloc(size))


def try_one(chance):
    """Have an outcome, which one in three is a failure; what failed is kept for a while."""
    try:
        with chance.choice(OUTCOMES):
            block(chance.randrange(3000))
            failed.append(bytearray(chance.randrange(3000)))
            if chance.random() < 0.3:
                raise ValueError
    except ValueError:
        del failed[:-100]


def change(chance):
    """Set variables and labels, and put some of them back."""
    tokens = []
    for _ in range(chance.randrange(60)):
        variable = chance.choice(VARIABLES)
        tokens.append((variable, variable.set(bytearray(chance.randrange(1000)))))
        with chance.choice(LABELS):
            block(chance.randrange(3000))
            if chance.random() < 0.1:
                memleak.label(x=chance.random()).__enter__()
        try_one(chance)
    for variable, token in reversed(tokens):
        if chance.random() < 0.7:
            variable.reset(token)


def churn(seed):
    """Go through contexts."""
    chance = random.Random(seed)
    while time.monotonic() < END:
        (contextvars.copy_context() if chance.random() < 0.5 else contextvars.Context()).run(change, chance)
        chance.choice(VARIABLES).set([bytearray(300) for _ in range(3)])
        if chance.random() < 0.05:
            threading.Thread(target=block, args=(500,)).start()
        if chance.random() < 0.02:
            gc.collect()


async def task(number):
    """Switch."""
    while time.monotonic() < END:
        with LABELS[number]:
            await asyncio.sleep(0)
            kept = bytearray(1000)
            await asyncio.get_running_loop().run_in_executor(None, block, len(kept))


async def tasks():
    """Many of them."""
    await asyncio.gather(*(task(number) for number in range(50)))


def daemon():
    """Go on when the interpreter ends."""
    while True:
        with LABELS[5]:
            block(3000)


first = random.Random(1)
for _ in range(100):  # before there are no numbers any more
    try_one(first)
churning = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
for thread in churning:
    thread.start()
for _ in range(3):
    threading.Thread(target=daemon, daemon=True).start()
asyncio.run(tasks())
for thread in churning:  # 3.12.1 lets them start no thread any more once the main thread is at its end
    thread.join()
