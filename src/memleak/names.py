"""Names that parts which must not load each other have in common."""

LIBRARY = "libmemleak.so"  # the core: file name and SONAME
