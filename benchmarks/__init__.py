"""Speed, measured: two ways of doing one thing run in turns in one process, and are reported as a
ratio with its spread. `python -m benchmarks.bench_train --help`, likewise bench_sample and
bench_data.
"""
