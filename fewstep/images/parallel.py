"""Ordered work on a few threads with little in flight, and a status line now and then."""

import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

SECONDS_BETWEEN_LINES = 10


def map_ordered(function, items, label=None):
    """Yield `function(item)` for every item, in order, computed on one thread per core.

    Only a few results a thread wait at any time, so a million items need no more memory than a
    hundred. An exception of `function` is raised where its result would have come. With a `label`,
    long work prints `label: n of total` now and then.
    """
    workers, waiting, last = os.cpu_count() or 1, deque(), time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        for started, item in enumerate(items):
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
            if label and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                print(f"{label}: {started + 1 - len(waiting)} of {len(items)}", flush=True)
        while waiting:
            yield waiting.popleft().result()
