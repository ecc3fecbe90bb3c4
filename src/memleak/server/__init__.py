"""`memleak serve`: MySQL's protocol over all recordings of this user. Needs the extra `mysql`."""

from .access import Access
from .listening import Listener, is_loopback
from .parameters import Parameters
from .recordings import Recordings
from .session import Service
from .tls import tls_context

__all__ = ["Access", "Listener", "Parameters", "Recordings", "Service", "is_loopback", "tls_context"]
