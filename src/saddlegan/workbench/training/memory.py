"""Memory between the steps of a training."""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # mallopt(3)
LARGEST = 32 << 20  # bytes; the most that mallopt takes for the first
KEPT = 1 << 30  # bytes of free memory at the heap's end that are not given back


def keep_freed() -> bool:
    """Let the allocator keep freed memory for the next step instead of giving it back to the system.

    Every step frees and asks again for the same hundreds of arrays. By default glibc takes large ones from the system
    and gives them back at once, and each page of each array then costs a fault when it is first touched: on ten
    replicas of the ring about 3,000 a step. The whole process is affected, so only programs call this, not the library.

    Returns:
        Whether the allocator took the settings; False where it is not glibc's.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_MMAP_THRESHOLD, LARGEST), (_TRIM_THRESHOLD, KEPT), (_TOP_PAD, LARGEST))
    return all([mallopt(name, value) == 1 for name, value in settings])
