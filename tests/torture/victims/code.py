"""Code that lives for a moment, generators left half-way, deep recursion, exceptions, timers: code.py ROUNDS."""

import asyncio
import gc
import signal
import sys
import weakref

rounds = int(sys.argv[1])
ticks = 0


def tick(*_):
    global ticks
    ticks += 1
    bytes(3000)


def deep(depth):
    return [depth] if depth == 0 else [depth, *deep(depth - 1)][:3]


def endless():
    return endless() + 1


def generator():
    while True:
        yield bytes(1000)


async def wait(number):
    await asyncio.sleep(0)
    if number % 7 == 3:
        raise KeyError(number)
    return [bytes(i) for i in range(number)]


async def gather():
    return await asyncio.gather(*(wait(number) for number in range(100)), return_exceptions=True)


signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
total, half_way, dead = 0, [], []
for number in range(rounds):
    space = {}
    exec(compile(f"def made_{number}(x):\n    return [x] * {number % 50}\n", f"<made {number}>", "exec"), space)
    function = space[f"made_{number}"]
    total += len(function(number))
    dead.append(weakref.ref(function.__code__))
    if number % 100 == 0:
        half_way.append(generator())
        next(half_way[-1])
        dead = [one for one in dead if one() is not None][-10:]
        total += len(deep(200))
        try:
            endless()
        except RecursionError as error:
            total += len(str(error)) > 0
        try:
            bytearray(1 << 60)
        except MemoryError:
            total += 1
        gc.collect(0)
results = asyncio.run(gather())
signal.setitimer(signal.ITIMER_REAL, 0)
print(total, len(half_way), sum(isinstance(one, KeyError) for one in results), ticks > 0)
