"""Makes every leak happen and prints the ledger: what each leaking line must be shown to hold.

Usage: script.py preload|import full|normal NUMBER. Through the import door it starts the tracer itself; where the core
was preloaded it switches to full mode. After the ledger it waits to be read.
"""

import gc
import json
import os
import sys

import leaks
import ring
from truth import SqliteMemory, bytearrays, line, objects, outside

# pymalloc takes arenas, and from malloc what it needs to know of them, at whatever line finds it without. So that it
# has enough, a block stays every 200 KB.
arenas_stay = [bytes(400) for _ in range(50_000)][::500]

door, mode, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
if (door, mode) != ("preload", "normal"):
    import memleak

    memleak.start(*((1, 1) if mode == "full" else ()), strict=True)
    adopted = [(bytes(1000), str(n)) for n in range(1000)]  # a thread follows a change within 64 allocations

sizes = [600 + 7 * (n % 59) for n in range(number)]
held = []


def plant_list():
    audit = leaks.Audit()
    for size in sizes:
        audit.record("e" * size)
    held.append(audit)
    yield line("list", audit.record, [*objects(audit.entries), outside(audit.entries)])


def plant_dict():
    pages = leaks.Pages()
    for path, size in [(f"/{n}", size) for n, size in enumerate(sizes)]:
        pages.get(path, size)
    held.append(pages)
    yield line("dict", pages.get, [*bytearrays(pages.cache.values()), outside(pages.cache)])


def plant_closure():
    bus = leaks.Bus()
    for topic in ["t" * size for size in sizes]:
        bus.subscribe(topic)
    held.append(bus)
    closures = [handler.__closure__ for handler in bus.handlers]
    place = bus.handlers[0].__code__.co_freevars.index("backlog")
    yield line("closure", bus.subscribe, objects([cells[place].cell_contents for cells in closures]))
    yield line("closure function", bus.subscribe, objects([*bus.handlers, *closures]))


def plant_cycle():
    end = sys.getsizeof(ring.Session(1))
    before = ring.held()
    for size in sizes:
        leaks.open_session(size)
    gc.collect()  # has its chance
    buffers, size = (now - then for now, then in zip(ring.held(), before))
    yield line("cycle", leaks.open_session, [size, *[0] * (buffers - 1), *[end] * buffers])


def plant_malloc():
    device = leaks.Device()
    assert all([device.lease(size) for size in sizes])
    yield line("malloc", device.lease, sizes)


def plant_numpy():
    if leaks.numpy is None:
        return
    spare = [leaks.numpy.zeros(1000) for _ in range(64)]  # takes what numpy has kept of the shapes of freed arrays
    camera = leaks.Camera()
    for size in sizes:
        camera.capture(size)
    held.append((spare, camera))
    frames = camera.frames
    shapes = [2 * leaks.numpy.dtype("intp").itemsize] * len(frames)  # a length and a stride
    parts = [(sys.getsizeof(frame) - frame.nbytes - shape, shape, frame.nbytes) for frame, shape in zip(frames, shapes)]
    yield line("numpy", camera.capture, [*(size for three in parts for size in three), outside(frames)])


def plant_sqlite():
    bodies = [bytes(5 * size) for size in sizes]
    memory, archive = SqliteMemory(), leaks.Archive(bodies[0])
    blocks, size = memory.held()
    for body in bodies:
        archive.store(body)
    held.append(archive)
    more_blocks, more = (now - then for now, then in zip(memory.held(), (blocks, size)))
    # 1 %: sqlite does not count the 8 bytes it puts before each block (0.2 %), and when a table of its own doubles it
    # gives back one that another line had asked for.
    yield line("sqlite", archive.store, [more, *[0] * (more_blocks - 1)], slack=0.01)


def plant_bytearray():
    uploads = leaks.Uploads()
    head = bytes(200)
    for rest in [bytes(size) for size in sizes]:
        uploads.receive(head, rest)
    held.append(uploads)
    yield line("bytearray", uploads.receive, [outside(body) for body in uploads.bodies])


def plant_interned():
    labels = leaks.Labels()
    host = "h" * 60
    for path in [f"/{n}" for n in range(10 * number)]:
        labels.add(host, path)
    held.append(labels)
    yield line("interned", labels.add, objects(labels.known))


def plant_generator():
    reports = leaks.Reports()
    for report in ["r" * size for size in sizes]:
        reports.read(report)
    held.append(reports)
    yield line("generator", reports.pages, objects([each.gi_frame.f_locals["page"] for each in reports.open]))


def plant_coroutine():
    proxy = leaks.Proxy()
    proxy.serve(sizes)
    held.append(proxy)
    bodies = [task.get_coro().cr_frame.f_locals["body"] for task in proxy.waiting]
    yield line("coroutine", proxy.handle, bytearrays(bodies))


def plant_thread_local():
    workers = leaks.Workers()
    for part in range(4):
        workers.start(sizes[part::4])
    held.append(workers)
    lists = workers.rendered
    yield line(
        "thread-local", workers.render,
        [*bytearrays([page for pages in lists for page in pages]), *map(outside, lists)],
    )  # fmt: skip


def main():
    ledger = []
    for name, plant in list(globals().items()):
        if name.startswith("plant_"):
            gc.collect()  # which empties the interpreter's free lists: what is made now is made of new blocks
            ledger += plant()
    gc.collect()
    print(json.dumps({"pid": os.getpid(), "lines": ledger}), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
