"""Who may use whom: C headers and Python modules, from the two lists below.

A C file includes only headers of a lower layer and its own. A Python module imports only modules of
a lower layer. A package (symbolize, sql, cli, tracemalloc) is one entry: inside it there are no rules.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nativebuild

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
PACKAGE = ROOT / "src/memleak"

# Headers of native/include among themselves; the core includes the format whole.
PUBLIC_LAYERS = [{"memleak", "mlf_counters", "mlf_records", "mlf_tables"}, {"mlf_header", "mlf_looks"}, {"memleak_format"}]

NATIVE_LAYERS = [
    {"memleak", "memleak_format"},
    {"base"},
    {"atomics", "arch_x86_64", "elfimage", "dwarf", "sys", "text"},
    {"stats", "clock", "cfi", "memory", "modules_seen", "objects", "relocs", "slots_names", "snapshot"},
    {"binding", "bitmap", "loader", "modules", "pages", "place", "pylayout", "recording_room", "regions", "sampler", "siblings", "turn", "unwind_thread"},
    {"callsite", "counter", "patch", "pyruntime", "recording", "unwind_step"},
    {"catalog", "governor", "greenlets", "index", "labels", "liveset", "mismatches", "pools", "pylabel", "settings", "slots_object", "unwind"},
    {"copies", "marks", "pins", "pycode", "rows"},
    {"gauges", "ledger", "outcome", "pyframes", "thinning"},
    {"aim", "samples", "allocator", "pygil", "slots"},
    {"focus", "heaps", "mappings", "owners", "tracer_gate", "tracer_probe"},
    {"tracer", "tracer_knobs", "tracer_start", "tracer_upkeep"},
    {"tracer_child"},
    {"tracer_take"},
    {"boot", "hook_malloc", "hook_new", "hook_pool", "hook_pymem"},
    {"wrap_pymem"},
    {"chores"},
    {"hook_events"},
    {"startup"},
    {"api"},
]

PYTHON_LAYERS = [
    {"errors", "layout", "linkmaps", "names", "once", "replaceable", "shown", "units", "_columns", "_memleak_ffi", "_scopes"},
    {"arena", "config", "header", "livesums", "mixing", "pylines", "regression", "rows", "smaps", "symbolize", "_native"},
    {"histories"},
    {"records"},
    {"aside", "estimate", "gauges", "heapwalk", "labels", "livecolumns", "loaded", "pool", "stackwords"},
    {"integrations", "pystacks", "verdict"},
    {"rowtable"},
    {"decode"},
    {"recording"},
    {"arenacap", "bundle", "coverage", "locate", "own", "stacks", "saving"},
    {"bundling", "control", "grouping", "ledger", "remains", "session", "tokens"},
    {"gaugerows", "mismatches", "pools", "suspects"},
    {"evidence", "gauging", "materialised", "merging", "percall", "processplaces", "scaling", "threads"},
    {"comparison", "footers", "judgement"},
    {"selection", "sql"},
    {"analyses"},
    {"query", "_autostart"},
    {"inprocess", "lookups", "server", "tracemalloc"},
    {"cli"},
    {"__main__"},
]

# Names in a layer's file and nowhere else: the one place for a dangerous or odd thing.
ONLY_IN = {
    r"\b__atomic_\w+|memory_order_\w+|__ATOMIC_\w+": {"atomics.h"},
    r"\bvolatile\s+(?!.*asm)(?:int|long|char|uint|size|bool|struct)": set(),
}
SYSTEM_CALLS = {
    f"SYS_{name}" for name in (
        "openat", "close", "read", "write", "pwrite64", "fstat", "fstatfs", "ftruncate", "fallocate", "mkdirat", "renameat",
        "unlinkat", "getdents64", "readlinkat", "getcwd", "mmap", "munmap", "mremap", "mprotect", "madvise", "getpid",
        "getppid", "gettid", "geteuid", "getrandom", "getrusage", "prlimit64", "nanosleep", "futex", "rt_sigprocmask", "get_robust_list",
        "set_robust_list", "uname", "utimensat", "newfstatat",
    )
}  # fmt: skip


def layer_of(layers: list[set[str]], name: str) -> int | None:
    """Return the number of the layer that holds *name*."""
    return next((number for number, layer in enumerate(layers) if name in layer), None)


def c_files() -> list[Path]:
    return sorted([*(NATIVE / "src").glob("*.[ch]"), *(NATIVE / "include").glob("*.h")])


@pytest.mark.parametrize("path", c_files(), ids=lambda path: path.name)
def test_c_file_includes_only_lower_layers(path):
    """Each quoted include is the file's own header or one of a lower layer."""
    layers = PUBLIC_LAYERS if path.parent.name == "include" else NATIVE_LAYERS
    mine = layer_of(layers, path.stem)
    assert mine is not None, f"{path.name} has no layer: add it to NATIVE_LAYERS"
    for header in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), flags=re.MULTILINE):
        name = Path(header).stem
        other = layer_of(layers, name)
        assert other is not None, f"{path.name} includes {header}, which has no layer"
        assert name == path.stem or other < mine, f"{path.name} (layer {mine}) includes {header} (layer {other})"


@pytest.mark.parametrize("path", sorted((NATIVE / "src").glob("*.h")), ids=lambda path: path.name)
def test_header_states_its_layer(path):
    """The number a header states is the number in the list."""
    stated = re.search(r"^// Layer (\d+)\.", path.read_text(), flags=re.MULTILINE)
    assert stated is not None, f"{path.name} does not say which layer it is in"
    assert int(stated.group(1)) == layer_of(NATIVE_LAYERS, path.stem)


@pytest.mark.parametrize("path", c_files(), ids=lambda path: path.name)
def test_special_words_stay_in_their_files(path):
    """Memory orders are spelled in atomics.h only, and nothing is shared by volatile."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    for pattern, homes in ONLY_IN.items():
        found = re.search(pattern, text)
        assert found is None or path.name in homes, f"{path.name}: {found.group(0)}"


def test_every_system_call_is_a_known_one():
    """No socket, no signal sent, nothing executed, nothing traced: what the core may ask the kernel for is this list."""
    named = {name for path in c_files() for name in re.findall(r"\bSYS_\w+", path.read_text())}
    assert named <= SYSTEM_CALLS


SYMBOLIZE_LAYERS = [
    {"bytes", "dwarf", "mlsym"}, {"section"}, {"abbrev", "symboltable"}, {"nearest", "symbols"}, {"unit"}, {"index", "linetable"}, {"lines", "names", "ranges"}, {"functions", "handle"}, {"lookup", "split"},
]  # fmt: skip


@pytest.mark.parametrize("path", sorted((NATIVE / "symbolize").glob("*.[ch]")), ids=lambda path: path.name)
def test_reader_of_dwarf_includes_only_lower_layers(path):
    """It has nothing of the core's."""
    mine = layer_of(SYMBOLIZE_LAYERS, path.stem)
    assert mine is not None, f"{path.name} has no layer: add it to SYMBOLIZE_LAYERS"
    for header in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), flags=re.MULTILINE):
        other = layer_of(SYMBOLIZE_LAYERS, Path(header).stem)
        assert other is not None and (other < mine or Path(header).stem == path.stem), f"{path.name} includes {header}"


def test_build_lists_every_c_file_of_the_reader():
    listed = [Path(name).stem for name in nativebuild.meson_list("symbolize_names")]
    assert sorted(listed) == sorted(path.stem for path in (NATIVE / "symbolize").glob("*.c"))
    layers = [layer_of(SYMBOLIZE_LAYERS, name) for name in listed]
    assert layers == sorted(layers)


def test_build_lists_every_c_file():
    """native/meson.build names each C file, in the order of layers, and no file that is not there."""
    listed = [Path(name).stem for name in nativebuild.meson_list("core_names")]
    assert sorted(listed) == sorted(path.stem for path in (NATIVE / "src").glob("*.c"))
    layers = [layer_of(NATIVE_LAYERS, name) for name in listed]
    assert layers == sorted(layers)


def python_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_ffi_build.py"))


def entry(path: Path) -> str:
    """Return the module or package directly below memleak that a file belongs to."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def own_imports(path: Path) -> Iterator[str]:
    """Yield the entries that a file imports from this package, whether at its top or in a function."""
    package = ["memleak", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text())
    guarded = {id(node) for block in ast.walk(tree) if _for_type_checkers(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("memleak."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = [*base, *(node.module.split(".") if node.module else [])]
            if target[:1] == ["memleak"]:
                yield from [target[1]] if len(target) > 1 else [alias.name for alias in node.names]


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_python_module_imports_only_lower_layers(path):
    """Each import from this package names a lower layer; the package's own face may name any."""
    mine = entry(path)
    if mine == "__init__":
        return
    layer = layer_of(PYTHON_LAYERS, mine)
    assert layer is not None, f"{mine} has no layer: add it to PYTHON_LAYERS"
    for name in own_imports(path):
        other = layer_of(PYTHON_LAYERS, name)
        if name == mine or name.startswith("__"):
            continue
        assert other is not None, f"{path.name} imports {name}, which has no layer"
        assert other < layer, f"{path.name} (layer {layer}) imports {name} (layer {other})"


def test_only_native_uses_cffi():
    """One module touches the core's cffi, and its objects never leave it; the reader of DWARF is another object's."""
    users = {
        entry(path)
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(
            "cffi" in name or "_memleak_ffi" in name
            for name in [*(a.name for a in node.names), getattr(node, "module", "") or ""]
        )
    }
    assert users <= {"_native"}


def test_proofs_exist():
    """A file that a comment names as proof of a claim is there."""
    for path in [*sorted((NATIVE / "src").iterdir()), NATIVE / "README.md", *sorted((ROOT / "docs/adr").glob("*.md"))]:
        for named in re.findall(r"\b((?:tests|benchmarks|docs)/[\w/]+\.(?:c|py|md))", path.read_text()):
            assert (ROOT / named).exists(), f"{path.name} names {named}"
