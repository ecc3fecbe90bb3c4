"""All recordings of this user, those of ended processes read once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from .. import locate, recording
from ..errors import RecordingError
from ..grouping import Source
from ..locate import Found
from ..recording import Recording
from ..sql import Content
from ..stacks import Tracer

_KEPT_MOST = 32


class Recordings:
    """Reads what there is whenever it is asked."""

    def __init__(self, places: Sequence[Path], symbolizer: Optional[Any]) -> None:
        """Look in *places*, and use *symbolizer* for names."""
        self._places = places
        self._symbolizer = symbolizer
        self._ended: dict[tuple[int, int], Recording] = {}

    def content(self) -> Content:
        """Return what SQL is asked about: every recording that can be read; there may be none."""
        ended: dict[tuple[int, int], Recording] = {}
        sources = []
        for found in locate.list_recordings(self._places):
            try:
                one = self._load(found)
            except RecordingError:
                continue  # it ended and was removed meanwhile, or is damaged: `memleak ps` does not list it either
            if found.alive is False and len(ended) < _KEPT_MOST:
                ended[_key(found)] = one
            sources.append(Source(one, bool(found.alive)))
        self._ended = ended
        return Content(tuple(sources), Tracer(self._symbolizer))

    def no_content(self) -> Content:
        """Return what a statement without tables is asked of."""
        return Content((), Tracer(self._symbolizer))

    def _load(self, found: Found) -> Recording:
        kept = self._ended.get(_key(found)) if found.alive is False else None
        return kept if kept is not None else recording.load(found.path)


def _key(found: Found) -> tuple[int, int]:
    return found.header.recording_id, found.header.heartbeat_cs
