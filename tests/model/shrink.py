"""The shortest form of a failing sequence that leaving steps out finds."""

import time


def shrink(steps, fails, seconds=120):
    """`fails(steps)` gives what is wrong, or None. Steps are left out in ever smaller pieces while it fails."""
    end = time.monotonic() + seconds
    size = max(1, len(steps) // 2)
    while True:
        at, shorter = 0, False
        while at < len(steps) and time.monotonic() < end:
            tried = steps[:at] + steps[at + size:]
            if tried and fails(tried):
                steps, shorter = tried, True
            else:
                at += size
        if time.monotonic() >= end or (size == 1 and not shorter):
            return steps
        size = size if shorter and size == 1 else max(1, size // 2)
