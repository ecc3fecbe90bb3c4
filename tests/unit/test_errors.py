"""The exceptions: one base, and messages with a remedy."""

import pytest

from memleak import errors


@pytest.mark.parametrize("name", ["RecordingError", "NewerFormatError", "TargetError", "CoreError", "QueryError"])
def test_every_error_is_a_memleak_error(name):
    """One except clause catches all."""
    assert issubclass(getattr(errors, name), errors.MemleakError)


def test_newer_format_says_what_to_do():
    """The message names the file, both formats and the remedy."""
    error = errors.NewerFormatError("a.mlrec", 3, 1)
    assert str(error) == "a.mlrec: recording format 3, this memleak reads up to 1: upgrade memleak"
    assert isinstance(error, errors.RecordingError)
    assert (error.found, error.supported) == (3, 1)
