"""Images a second, as measured by `headline.speed` or guessed, and what follows of them."""

from typing import NamedTuple

from headline.plan import compile_pays

# Before anything is measured, for --dry_run: (teacher, ADD student). None of these was measured.
GUESSES = {("full", "cuda"): (800, 400), ("tiny", "cuda"): (4000, 1500)}
GUESSES |= {("full", "cpu"): (1.5, 0.6), ("tiny", "cpu"): (100, 45)}
START = {"cuda": 25.0, "cpu": 6.0}  # seconds from a process's start to its first step
# Of the seconds that compiling took the first time, what a later process spends on it.
WARM_SHARE = 0.4
# Seconds of a network evaluation in scoring over those of a forward pass in training: in fp32 or
# TF32, uncompiled, in smaller batches.
SCORING_FACTOR = {"cuda": 4.0, "cpu": 1.5}
SET_SECONDS = {"cuda": 6.0, "cpu": 60.0}  # of the metrics of 1,000 images
DISTANCE_SECONDS = {"cuda": 1.0, "cpu": 3.0}  # of one distance of 500 images


SPEED_SECONDS = {"eager": 25.0, "compiled": 150.0}  # of measuring one way on a GPU
CPU_SPEED_SECONDS = 4.0


def ways(discs, is_compiled):
    """[(what, mode)] to measure: the teacher and students against each of `discs` eager, so that
    there is something to plan with soon; then the teacher and the first student compiled."""
    found = [(what, "eager") for what in ("teacher", *discs)]
    return found + [(what, "compiled") for what in ("teacher", discs[0])] * is_compiled


class Rate(NamedTuple):
    """Images a second of a training; `compile` is train.py's flag, `warm` the seconds that a
    process spends before its rate is reached, beside its start."""

    images: float
    compile: str
    warm: float


def holds_speed(results):
    """Whether the content of a results.json has a measured speed of a teacher and a student."""
    rows = results.get("speed")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return False
    wanted = {"what", "mode", "images_per_second", "warmup_seconds"}
    names = {row["what"] for row in rows if wanted <= row.keys()}
    return "teacher" in names and len(names) > 1


def rate_of(measured, what, seconds, fallback):
    """The `Rate` of a process of so many seconds that trains `what`: "teacher", or a student
    against the discriminator of that name.

    measured: content of speed.json, or {}. A discriminator that was not measured has the rate of
    the first that was, and one that was measured eager alone gains by compiling what that gains;
    where nothing was, `fallback` images a second. Compiled where that shows more images in the
    time, warm-up considered.
    """
    rows = [row for row in measured.get("rows", []) if "images_per_second" in row]
    table = {}
    for row in rows:
        table.setdefault(row["what"], {})[row["mode"]] = row
    students = [modes for name, modes in table.items() if name != "teacher"]
    first = {} if what == "teacher" or not students else students[0]
    modes = table.get(what) or first
    if not modes:
        return Rate(fallback, "auto", 0.0)
    eager, compiled = modes.get("eager"), modes.get("compiled") or first.get("compiled")
    if not compiled:
        return Rate(eager["images_per_second"], "off", 0.0)
    warm, fast = WARM_SHARE * compiled["warmup_seconds"], compiled["images_per_second"]
    if eager and "compiled" not in modes:
        fast *= eager["images_per_second"] / first["eager"]["images_per_second"]
    if not eager or compile_pays(seconds, eager["images_per_second"], fast, warm):
        return Rate(fast, "auto", warm)
    return Rate(eager["images_per_second"], "off", 0.0)
