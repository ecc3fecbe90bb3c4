"""docs/reference/failure-modes.md has every known way to fail, and names what would notice."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from test_mutants import MUTANTS

TESTS = Path(__file__).resolve().parent
sys.path.append(str(TESTS / "torture"))
from victims import NATIVE, PYTHON  # noqa: E402

TEXT = (TESTS.parent / "docs/reference/failure-modes.md").read_text()
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| ([A-E]\d+) \| (.+) \| (.*) \| (.+) \|$", TEXT, flags=re.MULTILINE)}
# As many as are known of each kind.
KNOWN = {"A": 19, "B": 14, "C": 9, "D": 11, "E": 9}


def test_every_failure_is_there():
    """Each once, in order."""
    assert list(ROWS) == [f"{kind}{number}" for kind, count in KNOWN.items() for number in range(1, count + 1)]


@pytest.mark.parametrize("rule", ROWS)
def test_what_is_named_exists(rule):
    """A test is named, and each test, victim, model and mutant that is named is one."""
    shown_by = ROWS[rule][2]
    tests = re.findall(r"`([^`]+)`", shown_by)
    victims = re.findall(r'victim "([^"]+)"', shown_by)
    mutants = re.findall(r'"([^"]+)"', re.sub(r'victim "[^"]+"', "", shown_by))
    assert tests or victims
    for test in tests:
        file, _, name = test.partition("::")
        assert not name or re.search(rf"^(def|static void) {name}\(", (TESTS / file).read_text(), re.MULTILINE), test
        assert (TESTS / file).exists(), test
    assert set(victims) <= NATIVE.keys() | PYTHON.keys()
    assert set(mutants) <= MUTANTS.keys()
