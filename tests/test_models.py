"""The core's lock-free parts, searched exhaustively by SPIN as the models of tests/models describe them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "models"))
import checking

MODELS = {model.name: model for model in checking.models()}
SEARCHES = [(name, search) for name, model in MODELS.items() for search in model.searches]
CHANGES = [(name, change) for name, model in MODELS.items() for change in model.changes]


@pytest.fixture(autouse=True)
def tools() -> None:
    """Skip where SPIN or a compiler is missing."""
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.mark.parametrize(("name", "search"), SEARCHES, ids=[f"{name} {search}" for name, search in SEARCHES])
def test_all_states_are_right(name: str, search: checking.Search, record_property) -> None:
    """No assertion fails, no thread is stuck, and where it is asked for nobody goes round in circles."""
    outcome = checking.run(MODELS[name], search)
    print(f"{name} {search}: {outcome}")
    assert outcome.fault is None, f"{outcome}; tests/models/README.md tells how to see the steps"
    record_property("searches to the end", 1)


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[f"{name} {change.name}" for name, change in CHANGES])
def test_change_is_found(name: str, change: checking.Change, record_property) -> None:
    """A mutant breaks the rule it is there to break; what a witness names does happen."""
    search, outcome = MODELS[name].find(change)
    print(f"{name} {search}: {outcome}")
    wanted = "non-progress cycle" if change.kind == "cycle" else "assertion violated"
    assert outcome.fault and outcome.fault.startswith((wanted, "invalid end state")), outcome
    record_property("changes found", 1)


@pytest.mark.parametrize("name", MODELS)
def test_model_is_told_from_wrong_ones(name: str) -> None:
    """Each model has a search, two mutants and a witness, uses what it says it defines, and stands in the table."""
    model = MODELS[name]
    roles = [change.role for change in model.changes]
    assert model.searches and roles.count("MUTANT") >= 2 and roles.count("WITNESS") >= 1
    assert f"| `{name}` |" in (checking.MODELS / "README.md").read_text()
    lines = model.path.read_text().splitlines()
    for change in model.changes:
        assert any(line.startswith(("#if", "#elif")) and change.name in line.split() for line in lines), change.name
