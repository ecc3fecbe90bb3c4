"""Which process of a run gets which tests: whole files, the longest first, and what waits apart from what computes.

As many processes as there are cores compute. Tests that sleep until a program is old enough to be judged would leave
a core idle meanwhile; they are the work of one more process, the last, which takes nothing else. A file is never
shared, so that what its module's fixtures start is started once.
"""

from __future__ import annotations

from functools import cached_property

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# They wait for the clock, some minutes in all.
WAITING = (
    "tests/scenarios/test_ledger_workloads.py",
    "tests/integration/test_per_call.py",
    "tests/integration/test_gauges.py",
    "tests/scenarios/test_growth.py",
    "tests/integration/test_verdict_command.py",
    "tests/integration/test_diff_command.py",
    "tests/integration/test_full_room.py",
)
# They begin first: a file that takes minutes and begins last would leave the other cores idle. All others follow.
LONGEST = (
    "tests/test_mutants.py",
    "tests/scenarios/test_planted_leaks.py",
    "tests/scenarios/test_database_clients.py",
    "tests/integration/test_door_storms.py",
    "tests/scenarios/test_prefork_services.py",
    "tests/test_fuzz.py",
    "tests/test_models.py",
    "tests/cpython/test_cpython_slice.py",
    "tests/integration/test_python_frames.py",
    "tests/integration/test_own_allocators.py",
    "tests/integration/test_python_domains.py",
    "tests/integration/test_mismatches.py",
    "tests/integration/test_import_door.py",
    "tests/compat/test_versions.py",
    "tests/integration/test_door_forks.py",
    "tests/torture/test_victims.py",
    "tests/integration/test_embedding.py",
    "tests/integration/test_real_programs.py",
    "tests/statistical/test_verdicts.py",
    "tests/scenarios/test_python_witness.py",
    "tests/torture/test_coexistence.py",
    "tests/torture/test_programs.py",
    "tests/integration/test_redis.py",
    "tests/torture/test_faults.py",
)


def file_of(nodeid: str) -> str:
    """Return the file that a test stands in."""
    return nodeid.partition("::")[0]


def place_of(nodeid: str) -> int:
    """Return how early a test's file begins, the least first."""
    file = file_of(nodeid)
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


class Scheduling(LoadScopeScheduling):
    """Hands out files in the order in which their tests are collected; those that wait to the last process."""

    def _split_scope(self, nodeid: str) -> str:
        return file_of(nodeid)

    def _is_apart(self, node: WorkerController) -> bool:
        """Tell whether a process is the one for tests that wait: the last, where there are three."""
        return self.numnodes > 2 and node.gateway.id == f"gw{self.numnodes - 1}"

    @cached_property
    def _places(self) -> dict[str, int]:
        """Return the place of each file in the collection; our base class begins with the files of most tests."""
        return {file: place for place, file in enumerate(dict.fromkeys(map(file_of, self.collection or ())))}

    def _next_for(self, node: WorkerController) -> str | None:
        """Return the file that a process gets next, if there is one for it."""
        left = sorted(self.workqueue, key=self._places.__getitem__)
        waiting = [file for file in left if file in WAITING]
        if self._is_apart(node) and not self._places.keys().isdisjoint(WAITING):
            return next(iter(waiting), None)
        return next(iter([*(file for file in left if file not in WAITING), *waiting]), None)

    def _assign_work_unit(self, node: WorkerController) -> None:
        file = self._next_for(node)
        if file is None:
            node.shutdown()
            return
        self.workqueue.move_to_end(file, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if not node.shutting_down and self._next_for(node) is None:
            node.shutdown()
            return
        super()._reschedule(node)
