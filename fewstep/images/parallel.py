"""Ordered work on a few threads with little in flight."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from src.feedback import Progress


def map_ordered(function, items, label=None):
    """Yield `function(item)` for every item, in order, computed on one thread per core.

    Only a few results a thread wait at any time, so a million items need no more memory than a
    hundred. An exception of `function` is raised where its result would have come. With a `label`,
    long work is reported under it.
    """
    workers, waiting = os.cpu_count() or 1, deque()
    report = Progress(label, len(items) if label else None, shown=bool(label))
    with ThreadPoolExecutor(workers) as pool, report:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
                report.update()
        while waiting:
            yield waiting.popleft().result()
            report.update()
