"""A short part of CPython's own tests, with and without the tracer: every case comes out the same.

The rest is run by the command ./cpython-tests.
"""

from __future__ import annotations

import compatenv
import comparing
import pytest
import suite


@pytest.fixture(scope="module")
def newest() -> tuple[str, str]:
    """Return the newest CPython that comes with its tests, and its version."""
    for version in reversed(compatenv.VERSIONS):
        python = compatenv.interpreter(version)
        if python is not None and suite.has_tests(python, "test_gc"):
            return version, python
    pytest.skip("no CPython with its tests on this machine")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["test_gc", "test_generators", "test_coroutines", "test_tracemalloc"])
def test_same_outcomes(newest, core_path, module):
    """Case by case; what differs without the tracer too is no difference."""
    found = comparing.compare(*newest, module, core_path)
    assert len(found.plain.cases) >= 20
    assert not found.unexpected, "\n".join([*map(str, found.unexpected), found.outputs[0][-4000:]])
