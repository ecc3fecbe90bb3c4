"""What ./cpython-tests calls a difference: told apart from chance, and never lost."""

from __future__ import annotations

import comparing
import pytest
import suite


def run(status: str = "0", **cases: str) -> suite.Run:
    """Return a run with these outcomes."""
    return suite.Run(status, 1.0, {case: tuple(outcome.split("+")) for case, outcome in cases.items()})


@pytest.fixture
def compare(monkeypatch):
    """``compare(plain runs, traced runs, known)``: compare runs that were made up."""

    def go(plain: list[suite.Run], traced: list[suite.Run], known=()) -> comparing.Comparison:
        sides = {False: iter(plain), True: iter(traced)}
        monkeypatch.setattr(suite, "run", lambda python, module, core=None, cases=(): next(sides[core is not None]))
        return comparing.compare("3.12", "python", "test_gc", "core", repeat=len(plain) - 1, known=list(known))

    return go


def kinds(found: comparing.Comparison) -> dict[str, str]:
    """Return what each difference is called."""
    return {one.case: str(one).partition(":")[0] for one in found.differences}


def test_equal_sides_have_no_difference(compare):
    """Whatever the outcomes are."""
    assert kinds(compare([run("2", a="passed", b="failed")], [run("2", a="passed", b="failed")])) == {}


@pytest.mark.parametrize("traced", ["failed", "skipped", "passed+failed", None])
def test_a_case_that_differs_each_time(compare, traced):
    """Failed, skipped, a sub-test more, not run at all."""
    other = run(**({"a": traced} if traced else {}))
    found = compare([run(a="passed")] * 3, [other] * 3)
    assert kinds(found) == {"a": "DIFFERS"}
    assert found.unexpected[0].plain == ["passed"] * 3
    assert found.unexpected[0].traced == [traced or "not run"] * 3


def test_a_case_that_differs_once_stays_a_difference(compare):
    """Chance may be the tracer's doing: what always passes without it should with it."""
    found = compare([run(a="passed")] * 3, [run(a="failed"), run(a="passed"), run(a="passed")])
    assert kinds(found) == {"a": "DIFFERS"}


def test_a_case_that_differs_without_the_tracer_too(compare):
    """Is no evidence, and is not run a third time."""
    found = compare([run(a="passed"), run(a="failed"), run(a="passed")], [run(a="failed"), run(a="passed"), run()])
    assert kinds(found) == {"a": "unsteady"}
    assert not found.unexpected
    assert len(found.differences[0].plain) == 2


@pytest.mark.parametrize("status", ["-11", "hangs", "2"])
def test_a_status_that_differs(compare, status):
    """Without a case that tells why it is a difference by itself."""
    found = compare([run(a="passed")] * 2, [run(status, a="passed")] * 2)
    assert kinds(found) == {comparing.STATUS: "DIFFERS"}


def test_a_crash_is_a_difference_beside_the_cases_it_took(compare):
    """Not explained by them."""
    found = compare([run(a="passed", b="passed")] * 2, [run("-11", a="passed")] * 2)
    assert kinds(found) == {"b": "DIFFERS", comparing.STATUS: "DIFFERS"}


def test_a_status_that_says_that_a_case_failed(compare):
    """Is told by the case."""
    found = compare([run(a="passed")] * 2, [run("2", a="failed")] * 2)
    assert kinds(found) == {"a": "DIFFERS", comparing.STATUS: "known"}


def test_a_module_without_cases(compare):
    """Two empty sides are not the same outcome."""
    with pytest.raises(suite.NoResult, match="no case was run"):
        compare([run("1")], [run("1")])


def test_a_module_that_skips_itself(compare):
    """It must do so on both sides."""
    skips = run()
    skips.output = "0:00:00 load avg: 1 [1/1] test_gc\ntest_gc skipped -- only on Windows\n"
    assert kinds(compare([skips], [skips])) == {}
    assert comparing.row(compare([skips], [skips]))[-1] == "skips itself"
    assert kinds(compare([skips], [run("-11")])) == {comparing.STATUS: "DIFFERS"}
    with pytest.raises(suite.NoResult, match="no case was run"):
        compare([run()], [run()])


def test_a_module_that_hangs_without_us(compare):
    """It is not tried with us: that would say nothing."""
    with pytest.raises(suite.HangsAlone, match="hangs without the tracer"):
        compare([run("hangs", a="passed")], [])


def test_known_differences(compare, tmp_path):
    """By version and case, with a reason; a line without one is refused."""
    path = tmp_path / "known.txt"
    path.write_text("# why\n\n3.1[1-9] a: is so\n3.9 b: is so\n")
    known = comparing.known_differences(path)
    found = compare([run(a="passed", b="passed")] * 2, [run(a="failed", b="failed")] * 2, known)
    assert kinds(found) == {"a": "known", "b": "DIFFERS"}
    path.write_text("3.9 a\n")
    with pytest.raises(ValueError, match="not VERSION CASE: REASON"):
        comparing.known_differences(path)


def test_the_list_can_be_read():
    """Each line has a reason."""
    assert all(why for _, _, why in comparing.known_differences())
