"""Speed, measured: two ways of doing one thing take turns in one process, and their ratio is
reported with its spread. Times are in seconds, memory in bytes; a ratio above 1 speaks for ours.
"""
