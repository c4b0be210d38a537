"""One real run within a budget of time: teacher, student and what it is compared with, scored."""

import time

BEGAN = time.monotonic()  # of the process, nearly: before anything large is imported
