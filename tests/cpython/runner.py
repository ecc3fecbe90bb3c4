"""Run modules of CPython's own tests, under the interpreter that is tested, and note every case's outcome.

``python runner.py OUTCOMES REGRTEST-ARGUMENTS…``: each outcome is one line of JSON in the file OUTCOMES, there as soon
as it is known: a crash leaves the ones before it.
"""

import json
import os
import sys
import unittest.result

import test

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if path != HERE]  # the tests are to find what they find without us
# Releases that were installed without some modules (3.11 and 3.12 forgot the new packages of test_multiprocessing).
FORGOTTEN = os.path.join(HERE, "forgotten")
test.__path__.append(FORGOTTEN)


def noting(path, method, outcome):
    """Return a method of TestResult that first writes the outcome down."""

    def note(self, case, *more):
        found = outcome
        if outcome == "subtest":
            found = None if more[1] is None else "failed"
        if found is not None:
            with open(path, "a") as lines:
                lines.write(json.dumps([case.id(), found]) + "\n")
        return method(self, case, *more)

    return note


def do_not_look_for_folders():
    """Tell regrtest that the modules which this installation lacks are not the packages that it would list."""
    try:
        from test.libregrtest import findtests
    except ImportError:  # CPython 3.9, 3.10
        return
    there = {name.partition(".")[0] for name in os.listdir(test.__path__[0])}
    findtests.SPLITTESTDIRS -= {name.partition(".")[0] for name in os.listdir(FORGOTTEN)} - there


def main():
    """Stand in front of TestResult's methods, which each of its subclasses calls, and start regrtest."""
    path = sys.argv.pop(1)
    result = unittest.result.TestResult
    outcomes = {
        "addSuccess": "passed",
        "addError": "failed",
        "addFailure": "failed",
        "addSkip": "skipped",
        "addExpectedFailure": "expected failure",
        "addUnexpectedSuccess": "unexpected success",
        "addSubTest": "subtest",
    }
    for name, outcome in outcomes.items():
        setattr(result, name, noting(path, getattr(result, name), outcome))
    do_not_look_for_folders()
    from test.libregrtest.main import main as regrtest

    regrtest()


if __name__ == "__main__":  # processes that multiprocessing spawns import this file too
    main()
