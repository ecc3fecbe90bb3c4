"""What was promised, against what was measured: met or not, with the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Optional

from .figures import Spread
from .matrix import NOISE, Cell, from_json

# Insertions beside 100,000 live samples over those beside 100: what "independent" is held to mean.
INDEPENDENT = 1.25


class Goal(NamedTuple):
    """One promise. No verdict where something was not measured."""

    what: str
    wanted: str
    figure: str
    met: Optional[bool]


class Result:
    """A result file, looked up by name; what is not there is a KeyError."""

    def __init__(self, held: dict[str, Any]) -> None:
        """Take the contents of the file."""
        self.held = held
        self.cells = {(cell.workload, cell.candidate, cell.baseline): cell for cell in map(from_json, held["cells"])}

    def cell(self, workload: str, candidate: str) -> Cell:
        """Return a candidate's cell."""
        for (at, who, _), cell in self.cells.items():
            if (at, who) == (workload, candidate) and not cell.failure:
                return cell
        raise KeyError(f"{workload}, {candidate}")

    def noise(self, cell: Cell) -> Optional[Cell]:
        """Return the cell of its baseline against itself."""
        return self.cells.get((cell.workload, NOISE, cell.baseline))

    def part(self, *names: str) -> Any:
        """Return something of a part."""
        held: Any = self.held["parts"]
        for name in names:
            held = held[name]
        return held


def goals(held: dict[str, Any]) -> list[Goal]:
    """Return every promise with its figure."""
    result = Result(held)
    found = []
    for what, wanted, ask in QUESTIONS:
        try:
            figure, met = ask(result)
        except (KeyError, TypeError) as missing:
            figure, met = f"nothing of {missing}", None
        found.append(Goal(what, wanted, figure, met))
    return found


Answer = tuple[str, bool]


def ratio(workload: str, candidates: tuple[str, ...], measure: str, limit: float) -> Callable[[Result], Answer]:
    """Return the question whether the worst of the candidates is within a limit."""

    def ask(result: Result) -> Answer:
        cells = [result.cell(workload, name) for name in candidates]
        worst = max(cells, key=lambda cell: cell.ratios[measure].median)
        noise = result.noise(worst)
        beside = (
            f"; noise {noise.ratios[measure].low:.3f} … {noise.ratios[measure].high:.3f}"
            if noise and noise.ratios
            else ""
        )
        return f"{worst.ratios[measure].words()} ({worst.candidate}{beside})", worst.ratios[measure].median <= limit

    return ask


def hook_ns(result: Result) -> Answer:
    """Time of a pair with nothing sampled, over stock."""
    over, noise = (result.part("hook", "rows", name, "over_stock_ns") for name in ("off", "stock again"))
    words = f"{over['median']:+.2f} ns [{over['low']:+.2f} … {over['high']:+.2f}]"
    return f"{words}; noise {noise['low']:+.2f} … {noise['high']:+.2f} ns", over["median"] <= 3


def hook_instructions(result: Result) -> Answer:
    """Instructions of a pair with nothing sampled, over stock."""
    over = result.part("hook", "rows", "off", "instructions_over_stock")
    return f"{over:+.2f} (counted, no noise)", over <= 18


def frames(result: Result) -> Answer:
    """A backtrace of sixteen frames."""
    ours = result.part("backtrace", "rows", "same stack", "ours")
    return f"{ours['ns_median']:.0f} ns [{ours['ns_min']:.0f} … {ours['ns_max']:.0f}, min … max]", ours[
        "ns_median"
    ] <= 110


def insertion(result: Result) -> Answer:
    """One insertion."""
    spread = Spread(**result.part("insertion", "rows", "1000", "insert_ns"))
    return f"{spread.words(1)} ns", spread.median <= 45


def independence(result: Result) -> Answer:
    """Insertions beside many live samples over those beside few."""
    few, many = (Spread(**result.part("insertion", "rows", live, "insert_ns")) for live in ("100", "100000"))
    words = f"{many.median / few.median:.2f} ×: {many.words(1)} ns beside 100,000, {few.words(1)} ns beside 100"
    return words, many.median <= INDEPENDENT * few.median


def sample(where: str, limit_ns: float) -> Callable[[Result], Answer]:
    """Return the question after whole samples."""

    def ask(result: Result) -> Answer:
        spread = Spread(**result.part("sample", "rows", where, "ns"))
        return f"{spread.words(0)} ns", spread.median <= limit_ns

    return ask


def deep_instructions(result: Result) -> Answer:
    """Instructions added 30 frames down."""
    rows = result.part("instructions", "rows")
    ours, theirs = (rows[name]["deep"]["over"] for name in ("memleak-normal", "jemalloc-prof-dense"))
    return f"{ours:+.1f} a pair; jemalloc prof with as many samples {theirs:+.1f}", ours < min(66, theirs)


def deep_ns(result: Result) -> Answer:
    """Time added 30 frames down."""
    names = ("memleak-normal", "jemalloc-prof-dense", "tcmalloc-sample-dense")
    ours, *others = (result.cell("malloc_deep", name).differences["inner_ns"] for name in names)
    words = ", ".join(
        f"{name} {one.median:+.1f} [{one.low:+.1f} … {one.high:+.1f}]" for name, one in zip(names, (ours, *others))
    )
    return f"{words} ns a pair", all(ours.median < one.median for one in others)


def errors(group: str, peer: str) -> Callable[[Result], Answer]:
    """Return the question whose estimates are nearer, of the sites that both see."""

    def ask(result: Result) -> Answer:
        ours, theirs = (
            Spread(**result.part("errors", "rows", name, "groups", group, "rms")) for name in ("memleak-normal", peer)
        )
        return f"{ours.words(1, 100)} %; {peer} {theirs.words(1, 100)} %", ours.median < theirs.median

    return ask


def cheaper(peer: str) -> Callable[[Result], Answer]:
    """Return the question whose tracing costs less CPU in the service."""

    def ask(result: Result) -> Answer:
        ours, theirs = (result.cell("flask", name).ratios[REQUEST] for name in ("memleak-normal", peer))
        return f"{ours.words()}; {peer} {theirs.words()}", ours.median <= theirs.median

    return ask


# CPU of a request, the start of the process left out: a service starts once.
REQUEST = "inner_ns"
NORMAL, ONLY_NATIVE = ("memleak-normal", "memleak-import-normal"), ("memleak-native", "memleak-import-native")
QUESTIONS: tuple[tuple[str, str, Callable[[Result], Answer]], ...] = (
    ("malloc + free through the hooks, nothing sampled: instructions over stock", "≤ +18", hook_instructions),
    ("the same: time over stock", "≤ +3 ns", hook_ns),
    ("a backtrace of 16 frames whose rules are known", "≤ 110 ns", frames),
    ("insertion into the live set, 1,000 live", "≤ 45 ns", insertion),
    ("cost of an insertion whatever the number of live samples", f"≤ {INDEPENDENT} ×", independence),
    ("a sampled malloc in a service, p50", "≤ 1200 ns", sample("in a service", 1200)),
    ("a sampled malloc in a hot loop, p50", "≤ 350 ns", sample("hot", 350)),
    ("Flask service, native and Python, CPU of a request", "≤ 1.01", ratio("flask", NORMAL, REQUEST, 1.01)),
    ("Flask service, native only, CPU of a request", "≤ 1.003", ratio("flask", ONLY_NATIVE, REQUEST, 1.003)),
    (
        "Flask service, every allocation, CPU of a request",
        "≤ 1.8",
        ratio("flask", ("memleak-full", "memleak-import-full"), REQUEST, 1.8),
    ),
    ("Flask service, peak memory", "≤ 1.10", ratio("flask", NORMAL, "peak_kib", 1.10)),
    ("redis, CPU of the server", "≤ 1.02", ratio("redis", ("memleak-normal",), "cpu_s", 1.02)),
    ("instructions added 30 frames down, against tcmalloc's sampling (+66) and jemalloc's", "least", deep_instructions),
    ("time added 30 frames down, each with as many samples", "least", deep_ns),
    ("error at native leaks, against jemalloc's profiler", "less", errors("native", "jemalloc-prof")),
    ("its CPU for a request in the Flask service, against jemalloc's profiler", "no more", cheaper("jemalloc-prof")),
    ("error at Python leaks, against ddtrace's profiler", "less", errors("Python", "ddtrace")),
    ("its CPU for a request in the Flask service, against ddtrace's profiler", "no more", cheaper("ddtrace")),
)


def lines(found: list[Goal]) -> Iterator[str]:
    """Yield the goals for a terminal."""
    for goal in found:
        verdict = {True: "met", False: "NOT MET", None: "?"}[goal.met]
        yield f"{verdict:8} {goal.what}: {goal.wanted}: {goal.figure}"
