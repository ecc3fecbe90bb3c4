"""Names that parts which must not load each other have in common."""

LIBRARY = "libmemleak.so"  # the core: file name and SONAME

_GAUGE_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_GAUGE_CHARACTERS = _GAUGE_LETTERS | frozenset("0123456789.:/-")
GAUGE_NAME_MOST = 48
GAUGE_RULE = f"a letter or _, then letters, digits and _ . : / -, at most {GAUGE_NAME_MOST} in all"


def is_gauge_name(name: str) -> bool:
    """Tell whether a gauge can be called so; `GAUGE_RULE` says how."""
    return 0 < len(name) <= GAUGE_NAME_MOST and name[0] in _GAUGE_LETTERS and _GAUGE_CHARACTERS.issuperset(name)
