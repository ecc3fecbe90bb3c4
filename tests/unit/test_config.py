"""The knobs: ranges, order, types, modes, and reading them from text."""

import pytest
from settingcases import INTERVALS, SHARES, SIZES

from memleak import config


def test_defaults():
    """As documented: 16, 256, Python's 256, 4096, 4 MiB, normal."""
    assert config.knobs() == (16, 256, 256, 4096, 4 << 20)
    assert config.knobs().mode == "normal"


def test_oceanbase_names_are_aliases():
    """The names with an underscore mean the same knobs."""
    assert config.knobs(_min_malloc_sample_interval=2, _max_malloc_sample_interval=3).native == (2, 3)
    with pytest.raises(ValueError, match="twice"):
        config.knobs(min_sample_interval=2, _min_malloc_sample_interval=2)
    with pytest.raises(ValueError, match="unknown knob 'min'"):
        config.knobs(min=2)


@pytest.mark.parametrize("pair", [(1, 1), (1, 10_000), (10_000, 10_000), (16, 256), (7, 7)])
def test_good_pairs(pair):
    """The whole range is allowed, equal ones too."""
    assert config.validate_pair(*pair) == pair


@pytest.mark.parametrize(
    "pair",
    [
        (0, 1),
        (-1, 5),
        (1, 10_001),
        (10_001, 10_001),
        (257, 256),
        (True, 5),
        (1, True),
        (1.0, 5),
        ("16", 256),
        (None, 5),
    ],
)
def test_bad_pairs(pair):
    """Out of range, out of order, or not an int."""
    with pytest.raises(ValueError, match="sample_interval"):
        config.validate_pair(*pair)


@pytest.mark.parametrize("value", [0, 4096, 4 << 20, 1 << 40])
def test_good_sample_bytes(value):
    """None at all, or at least 4 KiB."""
    assert config.validate_sample_bytes(value) == value


@pytest.mark.parametrize("value", [1, 4095, -4096, True, 4096.0, "4M", (1 << 40) + 1])
def test_bad_sample_bytes(value):
    """Too little, or not an int."""
    with pytest.raises(ValueError, match="sample_bytes"):
        config.validate_sample_bytes(value)


def test_modes():
    """Each mode has its pair; off is decided by the least interval."""
    assert [config.knobs_for_mode(mode).mode for mode in config.MODES] == list(config.MODES)
    assert config.knobs_for_mode("off")[:4] == (10_000,) * 4
    assert config.knobs_for_mode("full")[:4] == (1,) * 4
    assert config.knobs_for_mode("normal") == config.DEFAULTS
    assert config.mode_of(1, 10_000) == "normal"
    for bad in ("zero", "", None, 1, ["off"]):
        with pytest.raises(ValueError, match="unknown mode"):
            config.knobs_for_mode(bad)


@pytest.mark.parametrize(("text", "value"), SIZES.items())
def test_sizes(text, value):
    """Units are powers of 1024; anything else is not a size."""
    if value is not None:
        assert config.parse_bytes(text) == value
        return
    with pytest.raises(ValueError, match="not a size"):
        config.parse_bytes(text)


@pytest.mark.parametrize(("text", "value"), INTERVALS.items())
def test_intervals_as_text(text, value):
    """A whole number in range, blanks around it or not."""
    if value is not None:
        assert config.parse_interval(text) == value
        return
    with pytest.raises(ValueError):
        config.parse_interval(text)


@pytest.mark.parametrize("text", ["", "\u0663", "\u00b2", "\u20094"])
def test_only_plain_digits_and_blanks(text):
    """What the core could not read is not read here."""
    for parse in (config.parse_bytes, config.parse_interval):
        with pytest.raises(ValueError):
            parse(text)


def test_environment():
    """Each variable sets its knob; unset and blank ones set nothing."""
    environ = {
        "MEMLEAK_MIN_SAMPLE_INTERVAL": "4",
        "MEMLEAK_MAX_SAMPLE_INTERVAL": " 64 ",
        "MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "40",
        "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "640",
        "MEMLEAK_SAMPLE_BYTES": "1M",
        "MEMLEAK_MODE": "",
    }
    assert config.from_environment(environ) == (dict(zip(config.Knobs._fields, (4, 64, 40, 640, 1 << 20))), [])
    assert config.from_environment({}) == ({}, [])


def test_environment_mode_and_aliases():
    """A mode chooses the pair, an interval given by name replaces it."""
    assert config.from_environment({"MEMLEAK_MODE": "full"})[0] == {"min_sample_interval": 1, "max_sample_interval": 1}
    environ = {"MEMLEAK_MODE": "full", "_max_malloc_sample_interval": "20"}
    assert config.from_environment(environ)[0] == {"min_sample_interval": 1, "max_sample_interval": 20}


@pytest.mark.parametrize(
    ("environ", "kept"),
    [
        ({"MEMLEAK_MIN_SAMPLE_INTERVAL": "zero"}, {}),
        ({"MEMLEAK_MIN_SAMPLE_INTERVAL": "300"}, {}),
        ({"MEMLEAK_SAMPLE_BYTES": "12"}, {}),
        ({"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "4097"}, {}),
        ({"MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "-1", "MEMLEAK_SAMPLE_BYTES": "0"}, {"sample_bytes": 0}),
        (
            {"MEMLEAK_MODE": "full", "MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "5"},
            {"min_sample_interval": 1, "max_sample_interval": 1},
        ),
        ({"MEMLEAK_MODE": "loud", "MEMLEAK_SAMPLE_BYTES": "0"}, {"sample_bytes": 0}),
    ],
)
def test_bad_environment_gives_one_warning_and_the_default(environ, kept):
    """A bad value is left out with one line."""
    found, warnings = config.from_environment(environ)
    assert found == kept
    assert len(warnings) == 1 and "ignored" in warnings[0] and "\n" not in warnings[0]


def test_given_and_changed():
    """Each value is checked by itself, a pair together; what is not given stays."""
    assert config.given(min_sample_interval=None, max_sample_interval=5) == {"max_sample_interval": 5}
    assert config.changed(config.Knobs(20, 200, 30, 300, 0), {"min_sample_interval": 200}) == (200, 200, 30, 300, 0)
    for bad in (
        {"min_sample_interval": 0},
        {"min_sample_interval": 9, "max_sample_interval": 8},
        {"python_max_sample_interval": 10_001},
        {"python_min_sample_interval": 9, "python_max_sample_interval": 8},
        {"sample_bytes": 1},
    ):
        with pytest.raises(ValueError):
            config.given(**bad)
        with pytest.raises(ValueError):
            config.changed(config.DEFAULTS, bad)
    with pytest.raises(ValueError):
        config.changed(config.Knobs(20, 200), {"max_sample_interval": 19})


def test_at_start():
    """What is given, else the environment, else the default; what is given wins where they do not fit."""
    at_start = config.at_start
    assert at_start({}, {}) == (config.DEFAULTS, [])
    assert at_start({"MEMLEAK_MODE": "full"}, {"sample_bytes": 0}) == ((1, 1, 1, 1, 0), [])
    knobs, warnings = at_start({"MEMLEAK_MAX_SAMPLE_INTERVAL": "20"}, {"min_sample_interval": 32})
    assert (knobs, len(warnings)) == ((32, 256, 256, 4096, 4 << 20), 1)
    with pytest.raises(ValueError, match="min_sample_interval"):
        at_start({"MEMLEAK_MODE": "full"}, {"min_sample_interval": 300})


@pytest.mark.parametrize(
    ("values", "python"),
    [
        ({"min_sample_interval": 1, "max_sample_interval": 1}, (1, 1)),
        ({"min_sample_interval": 10_000, "max_sample_interval": 10_000}, (10_000, 10_000)),
        ({"min_sample_interval": 7, "max_sample_interval": 7}, (256, 4096)),
        ({"min_sample_interval": 1, "max_sample_interval": 10_000}, (256, 4096)),
        ({"max_sample_interval": 16}, (256, 4096)),
        ({"sample_bytes": 0}, (256, 4096)),
        (dict(zip(config.Knobs._fields, (1, 1, 8, 80))), (8, 80)),
        (dict(zip(config.Knobs._fields, (1, 1, 256, 4096))), (256, 4096)),
        ({"min_sample_interval": 1, "max_sample_interval": 1, "python_max_sample_interval": 9}, (1, 9)),
        ({"python_min_sample_interval": 5}, (5, 4096)),
    ],
)
def test_off_and_full_are_pythons_too_unless_given(values, python):
    """One interval of Python's that is given replaces that one."""
    assert config.changed(config.DEFAULTS, values).python == python
    assert config.at_start({}, values)[0].python == python
    assert config.knobs(**values).python == python


def test_python_leaves_off_and_full_with_the_others():
    """What was the same goes back to the default; what was chosen apart stays."""
    full, apart = config.knobs_for_mode("full"), config.Knobs(1, 1, 8, 80)
    normal = {"min_sample_interval": 16, "max_sample_interval": 256}
    assert config.changed(full, normal) == config.DEFAULTS
    assert config.changed(full, {"max_sample_interval": 5}).python == (256, 4096)
    assert config.changed(full, {**normal, "python_max_sample_interval": 300}).python == (256, 300)
    assert config.changed(apart, normal).python == (8, 80)
    assert config.changed(full, {"sample_bytes": 0}).python == (1, 1)
    assert config.changed(full, config.intervals(config.knobs_for_mode("off"))).python == (10_000, 10_000)
    assert config.changed(apart, {"min_sample_interval": 10_000, "max_sample_interval": 10_000}).python == (10_000,) * 2
    with pytest.raises(ValueError, match="python_min_sample_interval"):
        config.changed(full, {"python_min_sample_interval": 2})


def test_python_intervals_at_start():
    """They follow the mode of the environment, unless the environment or the program says otherwise."""
    at_start = config.at_start
    environ = {"MEMLEAK_MODE": "full", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "64"}
    assert at_start(environ, {}) == ((1, 1, 1, 64, 4 << 20), [])
    assert at_start(environ, {"python_max_sample_interval": 32})[0].python == (1, 32)
    assert at_start({"MEMLEAK_MODE": "full"}, {"python_min_sample_interval": 5})[0] == (1, 1, 5, 4096, 4 << 20)
    assert at_start({"MEMLEAK_MODE": "full"}, {"max_sample_interval": 20})[0] == (1, 20, 256, 4096, 4 << 20)
    environ = {"MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "300"}
    knobs, warnings = at_start(environ, {"python_min_sample_interval": 400})
    assert knobs == (16, 256, 400, 4096, 4 << 20)
    assert len(warnings) == 1 and warnings[0].startswith("python_max_sample_interval of the environment ignored: ")
    with pytest.raises(ValueError, match="python_max_sample_interval"):
        at_start(environ, {"python_min_sample_interval": 9, "python_max_sample_interval": 8})


def test_sides():
    """Only 0 leaves one out; the program's word counts more than the environment's."""
    for name, place in (("MEMLEAK_NATIVE", 0), ("MEMLEAK_PYTHON", 1)):
        words = ("0", " 0\n", "", "1", "off")
        assert [config.sides({name: word}, None, None)[place] for word in words] == [False, False, True, True, True]
        assert all(config.sides({name: word}, True, True) == (True, True, []) for word in ("0", "1"))
    assert config.sides({}, None, None) == config.sides({}, True, None) == (True, True, [])
    assert config.sides({}, False, None) == (False, True, [])
    assert config.sides({}, None, False) == (True, False, [])


def test_something_is_left_to_record():
    """Both sides left out by the program is an error; by it and the environment, or by that alone, a warning."""
    with pytest.raises(ValueError, match="native and python"):
        config.sides({}, False, False)
    for bad in (0, 1, "no"):
        with pytest.raises(ValueError, match="native must be"):
            config.sides({}, bad, None)
        with pytest.raises(ValueError, match="python must be"):
            config.sides({}, None, bad)
    neither = {"MEMLEAK_NATIVE": "0", "MEMLEAK_PYTHON": "0"}
    cases = (
        (neither, None, None, (True, False), "MEMLEAK_NATIVE ignored: MEMLEAK_PYTHON is 0, too, "),
        (neither, None, False, (True, False), "MEMLEAK_NATIVE ignored: python is False, "),
        (neither, False, None, (False, True), "MEMLEAK_PYTHON ignored: native is False, "),
    )
    for environ, native, python, expected, words in cases:
        *found, (warning,) = config.sides(environ, native, python)
        assert tuple(found) == expected and warning.startswith(words)


@pytest.mark.parametrize(("text", "value"), SHARES.items())
def test_budget_is_read(text, value):
    """A share with up to six digits that count; whatever else there is, is refused."""
    if value is None:
        with pytest.raises(ValueError):
            config.parse_budget(text)
        return
    assert config.parse_budget(text) == value
    assert config.validate_budget(value) == round(value * 1_000_000)


@pytest.mark.parametrize("value", [-0.01, 1.01, 1e-7, float("nan"), float("inf"), "0.01", True, None])
def test_bad_budget_values_are_refused(value):
    """The message names it."""
    with pytest.raises(ValueError, match="^budget must be "):
        config.validate_budget(value)


# ---- focus -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "focus"),
    [
        ("module=libfoo.so", "module=libfoo.so"),
        (" module=main ", "module=main"),
        ("label=tenant_id=7", "label=tenant_id=7"),
        ("label=a=", "label=a="),
        ("label=a=b=c", "label=a=b=c"),
        ("mod=operator_new", "mod=operator_new"),
        ("none", ""),
        ("off", ""),
        ("module=" + "x" * 248, "module=" + "x" * 248),
    ],
)
def test_focus(text, focus):
    """What the core takes."""
    assert config.validate_focus(text) == focus


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not one that is known"),
        (" ", "is not one that is known"),
        ("module", "is not one that is known"),
        ("thread=7", "is not one that is known"),
        ("module=", "names nothing"),
        ("mod=", "names nothing"),
        ("module=/usr/lib/libfoo.so", "as in module=libfoo.so"),
        ("label=tenant", "a label is NAME=VALUE"),
        ("label==7", "a label is NAME=VALUE"),
        ("mod=heap", "unknown mod 'heap'"),
        ("module=a\tb", "control characters"),
        ("module=" + "x" * 249, "longer than 255 bytes"),
        ("module=" + "\xe9" * 125, "longer than 255 bytes"),
        (7, "must be a text, not int"),
        (True, "must be a text, not bool"),
    ],
)
def test_bad_focus(text, words):
    """One line that says what is wrong."""
    with pytest.raises(ValueError, match=words) as raised:
        config.validate_focus(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("focus", "path", "names"),
    [
        ("module=libfoo.so", "/usr/lib/libfoo.so.1.2", True),
        ("module=libfoo.so", "libfoo.so", True),
        ("module=libfoo", "/a/libfoo.so", True),
        ("module=libfoo.so", "/a/libfoo.solid", False),
        ("module=_json", "/a/_json.cpython-311-x86_64-linux-gnu.so", True),
        ("module=json", "/a/_json.cpython-311-x86_64-linux-gnu.so", False),
        ("label=a=b", "/a/a.so", False),
    ],
)
def test_which_file_a_focus_names(focus, path, names):
    """Its name, or what goes on behind a point."""
    assert config.focus_names(focus, path) is names
