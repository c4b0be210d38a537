"""Ordered work on a few threads with little in flight, and a status line now and then."""

import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor


def map_ordered(function, items):
    """Yield `function(item)` for every item, in order, computed on one thread per core.

    Only a few results a thread wait at any time, so a million items need no more memory than
    a hundred. An exception of `function` is raised where its result would have come.
    """
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def reported(items, total, label, seconds=10.0):
    """Yield the items and print `label: n of total` about every `seconds`; short jobs say nothing.

    With `label` None nothing is printed.
    """
    last = time.monotonic()
    for done, item in enumerate(items):
        if label is not None and time.monotonic() - last >= seconds:
            last = time.monotonic()
            print(f"{label}: {done} of {total}", flush=True)
        yield item
