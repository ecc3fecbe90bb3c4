"""The exceptions of memleak, all derived from `MemleakError`.

A message says what was tried, what was found, and what to do about it, in one line.
"""


class MemleakError(Exception):
    """Base of every error memleak raises on purpose. Never raised itself."""


class RecordingError(MemleakError):
    """A file is not a recording, or is too damaged to be read."""


class NewerFormatError(RecordingError):
    """A recording, or a bundle of some, was written in a later format than this memleak reads."""

    def __init__(self, origin: str, found: int, supported: int, what: str = "recording") -> None:
        """Say that *origin* has format *found* while this reader knows up to *supported*."""
        super().__init__(
            f"{origin}: {what} format {found}, this memleak reads up to {supported}: upgrade memleak"
        )
        self.found = found
        self.supported = supported


class TargetError(MemleakError):
    """A target (pid, file, directory) is unknown, has no recording, or may not be opened."""


class CoreError(MemleakError):
    """The core library is missing or is not the one this package was built with."""


class QueryError(MemleakError):
    """A query cannot be answered: bad SQL, or a column, grouping or filter that does not exist."""
