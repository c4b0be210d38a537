"""Speed, measured: two ways of doing one thing run in turns in one process, and are reported as a
ratio with its spread.
"""
