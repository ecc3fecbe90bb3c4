"""A program that allocates at many places: each a path through Python functions and then through C ones.

usage: paths.py LIBRARY PATHS SECONDS

Of 400 Python functions in 20 modules a path takes about fifteen, and then eight of the 256 of LIBRARY, which is
paths.c. Paths share their beginnings as those of a service do. Each is walked until the seconds are over, and holds a block or
some. Ends without freeing anything.
"""

import ctypes
import os
import random
import sys
import time
import types

MODULES, FUNCTIONS, DEPTH, NATIVE_DEPTH = 20, 20, 12, 8
SOURCE = """
def {name}(path, at):
    following = path[at]
    if callable(following):
        if at % 3:
            return following(path, at + 1)
        return following(
            path,
            at + 1,
        )
    return walk(*following)
"""

library, number, seconds = ctypes.CDLL(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
walk = library.walk
walk.argtypes, walk.restype = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t], ctypes.c_void_p
functions = []
for at in range(MODULES):
    module = types.ModuleType(f"part_{at}")
    module.walk = walk
    names = [f"do_{at}_{one}" for one in range(FUNCTIONS)]
    source = "".join(SOURCE.format(name=name) for name in names)
    exec(compile(source, f"/srv/app/part_{at}.py", "exec"), module.__dict__)
    functions += [getattr(module, name) for name in names]


def main() -> None:
    """Make the paths and walk them."""
    chance = random.Random(11)
    paths = []
    # Whom a function calls: a few others, as in any program.
    called = {one: chance.sample(functions, 4) for one in functions}
    natively = [chance.sample(range(1, 256), 4) for _ in range(256)]
    begins = chance.sample(functions, 8)
    while len(paths) < number:
        path = [chance.choice(begins)]
        for _ in range(DEPTH + chance.randint(-3, 3)):
            path.append(chance.choice(called[path[-1]]))
        steps = [chance.randint(1, 255)]
        for _ in range(NATIVE_DEPTH + chance.randint(-2, 2)):
            steps.append(chance.choice(natively[steps[-1]]))
        size = int(chance.paretovariate(1.1) * 16) % 1_000_000
        paths.append([*path, (bytes(steps), len(steps), size)])
    ends = time.monotonic() + seconds
    held = 0
    while True:
        for path in paths[:: chance.randint(1, 5)] if held else paths * 2:
            block = path[0](path, 1)
            if held > 1.5 * number and chance.random() < 0.9:
                library.free(ctypes.c_void_p(block))
            held += 1
        if time.monotonic() > ends:
            break
        time.sleep(0.5)
    os._exit(0)


main()
