"""Which process of a run gets which tests."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest

scheduling = pytest.importorskip("scheduling", reason="pytest-xdist is not installed")

ROOT = Path(__file__).resolve().parents[2]
WAITING, LONGEST = scheduling.WAITING, scheduling.LONGEST


class Node:
    """A process that runs what it is sent."""

    def __init__(self, number: int) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.shutting_down = False
        self.queue: list[int] = []
        self.done: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def run(nodes: int, tests: list[str]) -> list[list[str]]:
    """Return which tests each process has run, when all take the same time; a test waits until its next is known."""
    config = SimpleNamespace(getvalue=lambda name: ["popen"] * nodes, option=SimpleNamespace(loadscopereorder=True))
    found = scheduling.Scheduling(config)
    tests = sorted(tests, key=scheduling.place_of)
    processes = [Node(number) for number in range(nodes)]
    for node in processes:
        found.add_node(node)
    for node in processes:
        found.add_node_collection(node, tests)
    found.schedule()
    while True:
        able = [node for node in processes if len(node.queue) > 1 or (node.queue and node.shutting_down)]
        if not able:
            break
        for node in able:
            node.done.append(node.queue.pop(0))
            found.mark_test_complete(node, node.done[-1])
    assert found.tests_finished and all(node.shutting_down and not node.queue for node in processes)
    return [[tests[index] for index in node.done] for node in processes]


def of(*files: str, each: int = 5) -> list[str]:
    return [f"{file}::test_{n}" for file in files for n in range(each)]


def files(tests: list[str]) -> set[str]:
    return {*map(scheduling.file_of, tests)}


@pytest.mark.parametrize("nodes", [3, 4, 9])
@pytest.mark.parametrize("each", [1, 2, 5])
def test_what_waits_is_the_work_of_the_last_process(nodes, each):
    others = [f"tests/test_{n}.py" for n in range(40)]
    tests = of(*others[:20], *WAITING, *LONGEST, *others[20:], each=each)
    *computing, waiting = run(nodes, tests)
    assert files(waiting) == {*WAITING}
    assert sorted(chain(waiting, *computing)) == sorted(tests)
    for file in files(tests):
        assert sum(file in files(part) for part in computing) <= 1
    assert {scheduling.file_of(part[0]) for part in computing} == {*LONGEST[: nodes - 1]}


def test_files_begin_in_the_order_that_is_given_however_many_tests_they_have():
    tests = [*of(*LONGEST, each=1), *of("tests/many.py", each=50)]
    (ran,) = run(1, tests)
    assert ran == tests


@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_no_test_is_left(nodes):
    """Whatever was chosen: tests that wait alone, none that wait, one."""
    for chosen in (of(*WAITING), of("tests/a.py", "tests/b.py", "tests/c.py", "tests/d.py"), of(WAITING[0], each=1)):
        assert sorted(chain(*run(nodes, chosen))) == sorted(chosen)


def test_without_tests_that_wait_all_processes_compute():
    assert all(run(3, of(*LONGEST)))


def test_files_that_are_named_exist():
    assert len({*WAITING, *LONGEST}) == len(WAITING) + len(LONGEST)
    for file in (*WAITING, *LONGEST):
        assert (ROOT / file).exists()
