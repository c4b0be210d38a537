"""Choose the noise levels of a student's few-step sampler, by training images alone.

    python -m fewstep tune --run_dir results/NAME
    python -m fewstep tune --ckpt_path checkpoints/best_model.pt --data_root DIR

For each NFE the levels are searched whose samples come nearest to the training images; the held-out
ones are not looked at. Better levels go into the student's model_config.json; the distances before
and after are printed, and tuning.json keeps all that was tried.
"""

from pathlib import Path

from fewstep.runs.weights import same_weights
from fewstep.studies.evaluate.arguments import check_subject, open_evaluation, subject_parser
from fewstep.studies.evaluate.level_search import search_levels
from fewstep.studies.evaluate.pictures import sample_images
from fewstep.studies.evaluate.subjects import LEAST, has_levels
from src.arguments import MOST_IMAGES, InRange, whole_number
from src.utils import UserError, read_json, write_json

SEED = 1_000_003  # apart from any that scores are given for
BATCH = 50
TUNE_SAMPLES = 500  # images of each trial, unless said otherwise


def build_parser():
    parser = subject_parser("tune", __doc__)
    limits = dict(type=whole_number, action=InRange, low=LEAST, high=MOST_IMAGES)
    text = "images of each trial (%(default)s)"
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
    if not has_levels(model):
        raise UserError(
            f"{subjects.checkpoint}: not a few-step student, so it has no noise levels to tune"
        )
    configs = {path: read_json(path) for path in _configs_of(subjects)}

    def distance(levels):
        # the same noise each time, so that the levels are what differs
        title = f"levels {_text(levels)}"
        images = sample_images(model, len(levels), count, BATCH, SEED, title, levels)
        return comparison.distance_to_training(images)

    results, first = {}, None
    for nfe in sorted(nfes):
        before = list(model.scheduler.few_step_sigmas(nfe))
        starts = [before, [first, *before[1:]]] if _falls(first, before) else [before]
        after, tried = search_levels(distance, starts)
        first = first or after[0]
        results[nfe] = {"before": before, "after": after, "tried": tried}
        distances = {tuple(levels): value for levels, value in tried}
        print(
            f"NFE {nfe}: levels {_text(before)} -> {_text(after)}, distance of {count} samples to"
            f" training images {distances[tuple(before)]:.2f} -> {distances[tuple(after)]:.2f}"
            f" ({len(tried)} tried)",
            flush=True,
        )
    space = {"feature_space": comparison.spaces[0].name, "num_samples": count, "seed": SEED}
    write_json(output / "tuning.json", space | {"levels": results})
    levels = {str(nfe): row for nfe, row in model.scheduler.few_step_table.items()}
    levels |= {str(nfe): result["after"] for nfe, result in results.items()}
    for path, config in configs.items():
        write_json(path, config | {"few_step_sigmas": levels})
        names = ", ".join(map(str, results))
        print(f"{path}: levels of NFE {names} written; tuning.json keeps the old ones")
    return results


def _falls(first, levels):
    """Whether `first` can stand in front of the lower ones of `levels`, and is another one."""
    return first is not None and first != levels[0] and all(first > low for low in levels[1:])


def _configs_of(subjects):
    """The checkpoint's model_config.json, and that of its copy where the run had put one."""
    exported = Path(subjects.settings.run.export_dir) / "best_model.pt"
    paths = [subjects.checkpoint.with_name("model_config.json")]
    if subjects.record and exported.is_file() and same_weights(exported, subjects.student):
        paths.append(exported.with_name("model_config.json"))
    return paths


def _text(levels):
    return " ".join(f"{level:.3g}" for level in levels)
