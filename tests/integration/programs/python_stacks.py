"""Holds blocks that were asked for through known chains of Python and native frames."""

import json
import os
import sys

kept = []


class Store:
    """A method that calls a method."""

    def grow(self, count):
        for _ in range(count):
            self.add()

    def add(self):
        kept.append(bytearray(300_000))


def key(number):
    """Called by the sort, which Python called."""
    kept.append(bytearray(400_000))
    return -number


def numbers(count):
    """Resumed by list.extend()."""
    for _ in range(count):
        yield bytearray(200_000)


def hook(pairs):
    """Called by the parser, which json.loads() called."""
    kept.append(bytearray(100_000))
    return dict(pairs)


def delegate(count):
    """Hands on what another generator yields."""
    yield from blocks(count)


def blocks(count):
    """Resumed through the generator that delegates."""
    for _ in range(count):
        yield bytearray(150_000)


def listed():
    """A comprehension: a function of its own before CPython 3.12."""
    return [bytearray(350_000) for _ in range(3)]


class Pause:
    """What an event loop's future does to who awaits it, without the event loop, whose import alone fills the room."""

    def __await__(self):
        yield


def loop(coroutine):
    """Resume a coroutine until it returns."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        pass


async def fetch():
    """Awaited, and resumed after it has waited itself."""
    await Pause()
    kept.append(bytearray(450_000))


async def stream(count):
    """An asynchronous generator."""
    for _ in range(count):
        await Pause()
        yield bytearray(250_000)


async def handle(count):
    """Awaits a coroutine, and iterates."""
    for _ in range(count):
        await fetch()
    async for block in stream(count):
        kept.append(block)


def main():
    """Each chain once, then wait to be read."""
    Store().grow(5)
    sorted(range(4), key=key)
    kept.extend(numbers(6))
    json.loads("[{}, {}]", object_pairs_hook=hook)
    kept.extend(delegate(7))
    kept.extend(listed())
    loop(handle(2))
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


main()
