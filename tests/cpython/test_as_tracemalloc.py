"""CPython's own test_tracemalloc passes with memleak.tracemalloc in place of tracemalloc, but for a listed few."""

from __future__ import annotations

import compatenv
import comparing
import pytest
import substituting
import suite


def test_the_list_can_be_read():
    """A line for each case, none twice, all of this test, and few."""
    known = comparing.known_differences(substituting.KNOWN)
    cases = [case for _, case, _ in known]
    assert len(set(cases)) == len(cases) == 6
    assert all(case.startswith("test.test_tracemalloc.") for case in cases)


@pytest.mark.slow
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_outcomes(version):
    """Case by case, in all its processes; and what is listed does differ, so that the list stays true."""
    python = compatenv.interpreter(version)
    if python is None or not suite.has_tests(python, substituting.MODULE):
        pytest.skip(f"no CPython {version} with its tests on this machine")
    known = comparing.known_differences(substituting.KNOWN)
    ours = substituting.python_with_ours(version)
    found = comparing.compare(version, python, substituting.MODULE, None, known=known, other=ours)
    assert len(found.plain.cases) >= 45 and found.plain.count("passed") >= 40
    assert not found.unexpected, "\n".join([*map(str, found.unexpected), found.outputs[0][-4000:]])
    listed = {case for _, case, _ in known if found.plain.outcome(case) == "passed"}
    assert listed == {one.case for one in found.differences if one.case != comparing.STATUS}
