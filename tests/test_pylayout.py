"""The core's table of CPython's structures is what each interpreter's own headers say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import compatenv
import pytest

NATIVE = Path(__file__).resolve().parent.parent / "native/src"

# field of struct pylayout -> (structure, member) by minor version from which on it is so
FRAME = {9: "PyFrameObject", 11: "_PyInterpreterFrame"}
MEMBERS = {
    "thread_interp": {9: ("PyThreadState", "interp")},
    "thread_context": {9: ("PyThreadState", "context")},
    "thread_frame": {9: ("PyThreadState", "frame"), 11: None, 13: ("PyThreadState", "current_frame")},
    "thread_cframe": {9: None, 11: ("PyThreadState", "cframe"), 13: None},
    "cframe_frame": {9: None, 11: ("_PyCFrame", "current_frame"), 13: None},
    "frame_back": {9: ("PyFrameObject", "f_back"), 11: ("_PyInterpreterFrame", "previous")},
    "frame_code": {
        9: ("PyFrameObject", "f_code"),
        11: ("_PyInterpreterFrame", "f_code"),
        13: ("_PyInterpreterFrame", "f_executable"),
    },
    "frame_last": {
        9: ("PyFrameObject", "f_lasti"),
        11: ("_PyInterpreterFrame", "prev_instr"),
        13: ("_PyInterpreterFrame", "instr_ptr"),
    },
    "frame_owner": {9: None, 11: ("_PyInterpreterFrame", "owner")},
    "frame_is_entry": {9: None, 11: ("_PyInterpreterFrame", "is_entry"), 12: None},
    "code_file": {9: ("PyCodeObject", "co_filename")},
    "code_name": {9: ("PyCodeObject", "co_name"), 11: ("PyCodeObject", "co_qualname")},
    "code_first_line": {9: ("PyCodeObject", "co_firstlineno")},
    "code_lines": {9: ("PyCodeObject", "co_lnotab"), 10: ("PyCodeObject", "co_linetable")},
    "code_instructions": {9: ("PyCodeObject", "co_code"), 11: ("PyCodeObject", "co_code_adaptive")},
    "code_first_traceable": {9: None, 11: ("PyCodeObject", "_co_firsttraceable")},
    "runtime_finalizing": {9: ("_PyRuntimeState", "_finalizing")},
    "runtime_interpreters": {9: ("_PyRuntimeState", "interpreters.head")},
    "runtime_main": {9: ("_PyRuntimeState", "interpreters.main")},
    "thread_id": {9: ("PyThreadState", "id")},
}
CONSTANTS = {
    "PYLAYOUT_OBJECT_TYPE": ("PyObject", "ob_type"),
    "PYLAYOUT_VAR_SIZE": ("PyVarObject", "ob_size"),
    "PYLAYOUT_TYPE_BASIC_SIZE": ("PyTypeObject", "tp_basicsize"),
    "PYLAYOUT_TYPE_DEALLOC": ("PyTypeObject", "tp_dealloc"),
    "PYLAYOUT_TEXT_LENGTH": ("PyASCIIObject", "length"),
    "PYLAYOUT_TEXT_STATE": ("PyASCIIObject", "state"),
    "PYLAYOUT_BYTES_DATA": ("PyBytesObject", "ob_sval"),
    "PYLAYOUT_CONTEXT_MAP": ("PyContext", "ctx_vars"),
    "PYLAYOUT_MAP_ROOT": ("PyHamtObject", "h_root"),
}
HEAD = """
#define Py_BUILD_CORE 1
#include <Python.h>
#include <stddef.h>
#include <stdio.h>
#include "internal/pycore_runtime.h"
#include "internal/pycore_context.h"
#include "internal/pycore_hamt.h"
#if PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_frame.h"
#include "internal/pycore_interp.h"
#else
#include "frameobject.h"
#include "code.h"
#endif
#if PY_VERSION_HEX >= 0x030C0000
#include "internal/pycore_obmalloc.h"
#endif
"""


def table() -> dict[int, dict[str, int]]:
    """Return the core's layouts by minor version."""
    text = (NATIVE / "pylayout.c").read_text()
    found = {}
    for body in re.findall(r"\{(\.minor = .*?)\}", text, flags=re.DOTALL):
        fields = dict(re.findall(r"\.(\w+) = (\w+)", body))
        found[int(fields.pop("minor"))] = {
            name: -1 if value == "NONE" else int(value) for name, value in fields.items() if not value.startswith("MLF")
        }
    return found


def constant(name: str) -> int:
    """Return a number that pylayout.h defines."""
    found = re.search(rf"#define {name} (\d+)", (NATIVE / "pylayout.h").read_text())
    assert found is not None
    return int(found.group(1))


def of_version(choices: dict, minor: int):
    """Return what holds for a version: the entry of the greatest one that is not later."""
    return choices[max(version for version in choices if version <= minor)]


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_offsets_are_those_of_the_headers(version, tmp_path):
    """Compiled against the interpreter's internal headers."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    minor = int(version.partition(".")[2])
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    include = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    if not (Path(include) / "internal").is_dir() or shutil.which("gcc") is None:
        pytest.skip(f"no headers of CPython {version} on this machine")
    expected = table()[minor]
    wanted = {field: of_version(choices, minor) for field, choices in MEMBERS.items()}
    lines = [f'printf("{field} %zu\\n", offsetof({place[0]}, {place[1]}));' for field, place in wanted.items() if place]
    lines += [f'printf("{name} %zu\\n", offsetof({place[0]}, {place[1]}));' for name, place in CONSTANTS.items()]
    lines.append('printf("text_ascii %zu\\ntext_compact %zu\\n", sizeof(PyASCIIObject), sizeof(PyCompactUnicodeObject));')
    if minor >= 11:
        lines.append('printf("PYLAYOUT_OWNER_GENERATOR %d\\n", FRAME_OWNED_BY_GENERATOR);')
    if minor >= 12:
        lines.append('printf("PYLAYOUT_OWNER_C_STACK %d\\narena_kib %d\\n", FRAME_OWNED_BY_CSTACK, ARENA_SIZE >> 10);')
    (tmp_path / "offsets.c").write_text(f"{HEAD}int main(void) {{ {' '.join(lines)} return 0; }}\n")
    command = ["gcc", "-w", f"-I{include}", f"-I{include}/internal", "-o", "offsets", "offsets.c"]
    subprocess.run(command, check=True, cwd=tmp_path)
    output = subprocess.run([tmp_path / "offsets"], check=True, capture_output=True, text=True).stdout
    found = {name: int(value) for name, value in (line.split() for line in output.splitlines())}
    for field, place in wanted.items():
        assert expected[field] == (found[field] if place else -1), field
    for name in found:
        if name.startswith("PYLAYOUT"):
            assert constant(name) == found[name], name
        elif name in ("text_ascii", "text_compact", "arena_kib"):
            assert expected[name] == found[name], name


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_sizes_are_those_the_types_tell(version):
    """They are what shows changed structures before a frame is read."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    code = "import types; print(types.CodeType.__basicsize__, types.FrameType.__basicsize__)"
    told = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    expected = table()[int(version.partition(".")[2])]
    assert [expected["code_bytes"], expected["frame_bytes"]] == list(map(int, told))
