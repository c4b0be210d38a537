"""The loop that every method shares: learners, processes, checkpoints, log, precision, speed."""
