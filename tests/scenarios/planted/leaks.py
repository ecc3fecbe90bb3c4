"""A service's code with a leak of each kind. The line that leaks ends with `# leak: NAME`.

Such a line calls no Python function and makes nothing else that lives on: the interpreter's free lists hand
blocks from one line to another. Nor is it the first of a function that is called a thousand times, on which
CPython 3.9 and 3.10 put a cache for its code.
"""

import asyncio
import ctypes
import sqlite3
import sys
import threading

import ring

try:
    import numpy
except ImportError:
    numpy = None


class Audit:
    """A list that only grows."""

    def __init__(self):
        self.entries = []

    def record(self, event):
        self.entries.append(event.encode())  # leak: list


class Pages:
    """A cache without a limit."""

    def __init__(self):
        self.cache = {}

    def get(self, path, size):
        page = self.cache.get(path)
        if page is None:
            page = self.cache[path] = bytearray(size)  # leak: dict
        return page


class Bus:
    """Subscribers are never removed, and each remembers what it has missed."""

    def __init__(self):
        self.handlers = []

    def subscribe(self, topic):
        backlog = topic.encode()  # leak: closure

        def deliver(event):  # leak: closure function
            return topic, event, backlog

        self.handlers.append(deliver)


def open_session(size):
    """A session and its channel refer to each other, which the collector does not see."""
    session = ring.Session(size)  # leak: cycle
    return session.count()


class Device:
    """A driver in C whose buffers nobody frees."""

    def __init__(self):
        self.allocate = ctypes.CDLL(None).malloc
        self.allocate.argtypes, self.allocate.restype = [ctypes.c_size_t], ctypes.c_void_p

    def lease(self, size):
        return self.allocate(size)  # leak: malloc


class Camera:
    """Keeps every frame, for a report that nobody asks for."""

    def __init__(self):
        self.frames = []

    def capture(self, width):
        self.frames.append(numpy.zeros(width))  # leak: numpy


class Archive:
    """A database in memory, into which blobs go and from which none is deleted."""

    def __init__(self, body):
        database = sqlite3.connect(":memory:")
        self.cursor = database.cursor()
        self.cursor.execute("create table archive (id integer primary key, body blob)")
        self.cursor.execute(self.insert, (body,))

    insert = "insert into archive (body) values (?)"

    def store(self, body):
        self.cursor.execute(self.insert, (body,))  # leak: sqlite


class Uploads:
    """Keeps what clients send, also of those who have gone."""

    def __init__(self):
        self.bodies = []

    def receive(self, head, rest):
        body = bytearray(head)
        self.bodies.append(body)
        body += rest  # leak: bytearray


class Labels:
    """Names of metrics, interned because there are only a few of them; they contain what users send."""

    def __init__(self):
        self.known = []

    def add(self, host, path):
        known = self.known
        name = f"{host}{path}"  # leak: interned
        known.append(sys.intern(name))


class Reports:
    """Readers that stop at the first page leave their generator behind."""

    def __init__(self):
        self.open = []

    def read(self, report):
        pages = self.pages(report)
        next(pages)
        self.open.append(pages)

    def pages(self, report):
        while True:
            page = report.encode()  # leak: generator
            yield page


class Proxy:
    """Requests wait for an upstream that never answers."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.upstream = self.loop.create_future()
        self.waiting = []

    async def handle(self, size):
        body = bytearray(size)  # leak: coroutine
        await self.upstream
        return body

    def serve(self, sizes):
        self.waiting += [self.loop.create_task(self.handle(size)) for size in sizes]
        self.loop.run_until_complete(asyncio.sleep(0))


class Workers:
    """Threads that live on with all they have ever rendered."""

    def __init__(self):
        self.local = threading.local()
        self.rendered = []

    def start(self, sizes):
        """Let one more thread work. One after the other, so that each run allocates in the same order."""
        done = threading.Event()
        threading.Thread(target=self.work, args=(sizes, done), daemon=True).start()
        done.wait()

    def work(self, sizes, done):
        self.local.pages = []
        for size in sizes:
            self.render(size)
        self.rendered.append(self.local.pages)
        done.set()
        threading.Event().wait()

    def render(self, size):
        self.local.pages.append(bytearray(size))  # leak: thread-local
