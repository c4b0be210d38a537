"""Measurements of training steps; each prints its lines and returns plain values."""

from functools import partial
from statistics import median

from fewstep.engine.processes import ALONE
from fewstep.runs.building import build_batches
from fewstep.studies.bench.contenders import (
    PLAIN,
    file_batches,
    prepare,
    settings_of,
    turn_of,
)
from fewstep.studies.bench.device import clear, is_out_of_memory, waiter
from fewstep.studies.bench.flops import flops_of, utilisation
from fewstep.studies.bench.pictures import decoded, draw_files
from fewstep.studies.bench.profiling import profile_lines, profiled
from fewstep.studies.bench.report import memory_text
from fewstep.studies.bench.turns import in_turns, ratio_line, ratios, seconds_of

COUNTED_IMAGES = 8  # operations are counted on this many: each image has the same
MOST_FILES = 4096


class Bench:
    """What all measurements of one command share: sizes, the device, images drawn to `folder`.

    steps: of a turn; rounds: pairs of turns; largest: batch size that will be asked for.
    """

    def __init__(self, preset, batch_size, steps, rounds, device, folder, largest):
        self.preset, self.batch_size, self.steps, self.rounds = preset, batch_size, steps, rounds
        self.device, self.folder, self.wait = device, folder, waiter(device)
        # Enough for all turns, if possible: a DataLoader stumbles where an epoch ends.
        wanted = largest * steps * (rounds + 4)
        self.files = draw_files(folder / "files", max(2 * largest, min(wanted, MOST_FILES)))
        self.cache = decoded(self.files, folder / "cache")

    def settings(self, batch_size, speed):
        return settings_of(self.preset, batch_size, speed, self.folder / "cache")

    def contender(self, phase, speed, from_files=False, batch_size=None):
        """A `Contender` with these values of the group `speed`."""
        settings = self.settings(batch_size or self.batch_size, speed)
        if from_files:
            batches = partial(file_batches, settings, self.files, self.device)
        else:
            batches = partial(build_batches, settings, self.cache, self.device, ALONE)
        return prepare(phase, settings, batches, self.device, self.steps)

    def flops_per_image(self, phase):
        """Floating-point operations of a step, an image, counted on the plain form."""
        settings = self.settings(min(self.batch_size, COUNTED_IMAGES), PLAIN)
        batches = build_batches(settings, self.cache, self.device, ALONE)
        turn = turn_of(phase, settings, batches, self.device, steps=1)
        return flops_of(turn) / settings.data.batch_size


def compare(bench, phase, peak):
    """Our defaults against the plain step; prints, and returns a dict."""
    per_image = bench.flops_per_image(phase)
    clear(bench.device)
    ours = bench.contender(phase, {})
    plain = bench.contender(phase, PLAIN, from_files=True)
    turns = in_turns(ours.run, plain.run, bench.rounds, bench.wait)
    print(ratio_line(f"{phase}, plain over defaults", turns.first, turns.second))
    result = {"ratios": ratios(turns.first, turns.second)}
    for name, who, seconds in [("defaults", ours, turns.first), ("plain", plain, turns.second)]:
        result[name] = described(bench, name, who, seconds, bench.batch_size, per_image, peak)
    per_step = per_image * bench.batch_size
    print(f"  {per_step / 1e12:.3g} TFLOP a step; the device does {peak / 1e12:.3g} TFLOP/s")
    return result | {"flops_per_step": per_step}


def described(bench, name, contender, seconds, batch_size, per_image, peak):
    """Print a line about one contender, given the seconds of its turns; the same as a dict."""
    images = bench.steps * batch_size
    rate, share = images / median(seconds), utilisation(per_image * images, median(seconds), peak)
    print(
        f"  {name}: {rate:.1f} images/s, peak {memory_text(contender.peak)},"
        f" utilisation {100 * share:.1f} %, warm-up {contender.warmup:.1f} s",
        flush=True,
    )
    return {
        "images_per_second": rate,
        "peak_bytes": contender.peak,
        "utilisation": share,
        "warmup_seconds": contender.warmup,
    }


def pull_lever(bench, phase, name, value):
    """Our defaults against themselves with one setting changed; prints, and returns a dict."""
    clear(bench.device)
    ours = bench.contender(phase, {})
    changed = bench.contender(phase, {name: value})
    turns = in_turns(ours.run, changed.run, bench.rounds, bench.wait)
    shown = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
    line = ratio_line(f"{phase}, {name}={shown} over defaults", turns.first, turns.second)
    print(
        f"{line}\n  peak {memory_text(changed.peak)} over {memory_text(ours.peak)},"
        f" warm-up {changed.warmup:.1f} over {ours.warmup:.1f} s",
        flush=True,
    )
    return {
        "lever": name,
        "value": value,
        "ratios": ratios(turns.first, turns.second),
        "peak_bytes": [ours.peak, changed.peak],
        "warmup_seconds": [ours.warmup, changed.warmup],
    }


def sweep(bench, phase, sizes, peak):
    """Our defaults over batch sizes, up to where memory ends; prints, and returns a list."""
    per_image, found = bench.flops_per_image(phase), []
    for size in sizes:
        clear(bench.device)
        try:
            row = _at_size(bench, phase, size, per_image, peak)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            print(f"  {phase}, batches of {size}: out of memory; larger ones are left out")
            break
        found.append({"batch_size": size} | row)
    return found


def _at_size(bench, phase, size, per_image, peak):
    # A function of its own: what it built is gone before the next size needs the memory.
    ours = bench.contender(phase, {}, batch_size=size)
    seconds = [seconds_of(ours.run, bench.wait) for _ in range(bench.rounds)]
    return described(bench, f"{phase}, batches of {size}", ours, seconds, size, per_image, peak)


def profile(bench, phase):
    """Where the time of our defaults goes; prints, and returns a dict."""
    clear(bench.device)
    found = profiled(bench.contender(phase, {}).run, bench.device, bench.wait)
    print(f"{phase}, costs of {bench.steps} steps:", *profile_lines(found), sep="\n", flush=True)
    return found._asdict()
