"""Choose the noise levels of a student's few-step sampler, by training images alone.

    python -m fewstep tune --run_dir results/NAME
    python -m fewstep tune --ckpt_path checkpoints/best_model.pt --data_root DIR

For each NFE the levels are searched whose samples come nearest to the training images, in random
features unless others are named; the held-out images are not looked at. Better levels go into the
student's model_config.json; the distances before and after are printed, and tuning.json keeps all
that was tried. A search that is stopped goes on.
"""

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

from fewstep.runs.weights import same_weights
from fewstep.studies.evaluate.pictures import sample_images
from fewstep.studies.evaluate.subjects import (
    LEAST,
    check_subject,
    has_levels,
    open_evaluation,
    subject_parser,
    what_scores_depend_on,
)
from src.arguments import DEFAULT, MOST_IMAGES, InRange, whole_number
from src.feedback import Progress, say
from src.published import is_published
from src.utils import UserError, read_json, weights_digest, write_json

SEED = 1_000_003  # apart from any that scores are given for
BATCH = 50
TUNE_SAMPLES = 500  # images of each trial, unless said otherwise
COARSE, FINE = (0.5, 2**-0.5, 2**0.5, 2.0), (2**-0.25, 2**0.25)  # factors of a level in each round


def build_parser():
    parser = subject_parser("tune", __doc__, features=["random"])  # FID's own should only judge
    limits = dict(type=whole_number, action=InRange, low=LEAST, high=MOST_IMAGES)
    text = f"images of each trial ({DEFAULT})"
    parser.add_argument("--num_samples", default=TUNE_SAMPLES, **limits, help=text)
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    check_subject(args)
    subjects, comparison, output = open_evaluation(args)
    tune(subjects, comparison, args.nfe_list, args.num_samples, output)
    return 0


def tune(subjects, comparison, nfes, count, output):
    """Search the levels of each NFE by the distance of `count` samples to the training images.

    Fewest evaluations first; the next searches may start from the first level found. Levels go into
    model_config.json beside the checkpoint and beside its copy in the run's export folder; what was
    tried goes into `output`/tuning.json. Returns {nfe: {"before": levels, "after": levels, "tried":
    [(levels, distance), ...]}}. Raises `UserError` for a model that has no such levels.
    """
    model = subjects.student
    if is_published(subjects.checkpoint):
        raise UserError(
            f"{subjects.checkpoint}: published weights stay as they are; tune what `publish unpack`"
            " makes of them"
        )
    if not has_levels(model):
        raise UserError(
            f"{subjects.checkpoint}: not a few-step student, so it has no noise levels to tune"
        )
    configs = {path: read_json(path) for path in _configs_of(subjects)}
    trials = Trials(
        output / "tuning_trials.json", _what_trials_depend_on(comparison, subjects, count)
    )

    def distance(levels, report):
        value = trials.get(levels)
        if value is None:
            # the same noise each time, so that the levels are what differs
            title = f"levels {_text(levels)}"
            images = sample_images(model, len(levels), count, BATCH, SEED, title, levels)
            value = comparison.distance(images, "training")
            trials.put(levels, value)
        report.update()
        return value

    results, first = {}, None
    for nfe in sorted(nfes):
        before = list(model.scheduler.few_step_sigmas(nfe))
        starts = [before]
        if first not in (None, before[0]) and all(first > low for low in before[1:]):
            starts.append([first, *before[1:]])
        with Progress(f"NFE {nfe}, levels tried", most_trials(nfe, len(starts)), "trial") as report:
            after, tried = search_levels(partial(distance, report=report), starts)
        first = first or after[0]
        results[nfe] = {"before": before, "after": after, "tried": tried}
        distances = {tuple(levels): value for levels, value in tried}
        say(
            f"NFE {nfe}: levels {_text(before)} -> {_text(after)}, distance of {count} samples to"
            f" training images {distances[tuple(before)]:.2f} -> {distances[tuple(after)]:.2f}"
            f" ({len(tried)} tried)"
        )
    space = {"feature_space": comparison.spaces[0].name, "num_samples": count, "seed": SEED}
    write_json(output / "tuning.json", space | {"levels": results})
    levels = model.scheduler.few_step_table | {nfe: one["after"] for nfe, one in results.items()}
    levels = {str(nfe): row for nfe, row in levels.items()}
    for path, config in configs.items():
        write_json(path, config | {"few_step_sigmas": levels})
        names = ", ".join(map(str, results))
        print(f"{path}: levels of NFE {names} written; tuning.json keeps the old ones")
    trials.path.unlink(missing_ok=True)  # now that nothing of the search can be lost
    return results


class Trials:
    """Distances of the levels that were tried, in a file, so that a search that was interrupted
    goes on from them. identity: plain values that they all depend on; others are not taken."""

    def __init__(self, path, identity):
        self.path, self.identity, self.distances = path, identity, {}
        kept = read_json(path) if path.exists() else {}
        if kept.get("identity") == identity:
            self.distances = kept["distances"]
            print(f"{path}: {len(self.distances)} trials are there already")

    def get(self, levels):
        """The distance of these levels, or None."""
        return self.distances.get(json.dumps(levels))

    def put(self, levels, distance):
        """Keep the distance of these levels."""
        self.distances[json.dumps(levels)] = distance
        write_json(self.path, {"identity": self.identity, "distances": self.distances})


def _what_trials_depend_on(comparison, subjects, count):
    config = read_json(subjects.checkpoint.with_name("model_config.json"))
    return what_scores_depend_on(comparison, subjects) | {
        "weights": weights_digest(subjects.student),
        "config": {key: value for key, value in config.items() if key != "few_step_sigmas"},
        "count": count,
    }


def search_levels(score, starts, rounds=(COARSE, FINE)):
    """Coordinate search from the best of `starts`: in each round each level in turn is multiplied
    by the round's factors, and the best is kept.

    score(levels) -> float, smaller is better, called once for each list of levels. Levels stay
    falling and above 0. Returns the best levels, by the score never worse than any start, and
    [(levels, score), ...] of all that were tried.
    """
    tried = {tuple(levels): score(list(levels)) for levels in starts}
    best = min(tried, key=tried.get)
    for factors in rounds:
        for place in range(len(best)):
            base = best  # a level moves by one factor a round, not by a product of them
            for factor in factors:
                candidate = (*base[:place], base[place] * factor, *base[place + 1 :])
                if candidate in tried or any(a <= b for a, b in pairwise(candidate)):
                    continue
                tried[candidate] = score(list(candidate))
                if tried[candidate] < tried[best]:
                    best = candidate
    return list(best), [(list(levels), value) for levels, value in tried.items()]


def most_trials(nfe, starts, rounds=(COARSE, FINE)):
    """How many lists of `nfe` levels `search_levels` tries at most."""
    return starts + nfe * sum(map(len, rounds))


def _configs_of(subjects):
    """The checkpoint's model_config.json, and that of its copy where the run had put one."""
    exported = Path(subjects.settings.run.export_dir) / "best_model.pt"
    paths = [subjects.checkpoint.with_name("model_config.json")]
    if subjects.record and exported.is_file() and same_weights(exported, subjects.student):
        paths.append(exported.with_name("model_config.json"))
    return paths


def _text(levels):
    return " ".join(f"{level:.3g}" for level in levels)
