"""`fewstep evaluate --tune`: better noise levels for the student, into its `model_config.json`."""

from pathlib import Path

from fewstep.runs.identity import same_weights
from fewstep.studies.evaluate.level_search import search_levels
from fewstep.studies.evaluate.pictures import sample_images
from src.utils import UserError, read_json, write_json

SEED = 1_000_003  # apart from any that scores are given for
BATCH = 50


def tune_student(subjects, comparison, nfes, count, output):
    """Search the levels of each NFE by the distance of `count` samples to the training images.

    The held-out images are not looked at. Fewest evaluations first; the next searches may start
    from the first level found. Levels go into model_config.json beside the checkpoint and beside
    its copy in the run's export folder; what was tried goes into `output`/tuning.json. Returns
    {nfe: {"before": levels, "after": levels}}.
    """
    model, results, first = subjects.student, {}, None
    if model.sampler != "few_step":
        raise UserError(f"--tune: {subjects.checkpoint} is a teacher; name a student")
    configs = {path: read_json(path) for path in _configs_of(subjects)}

    def score(levels):
        # the same noise each time, so that the levels are what differs
        title = f"levels {_text(levels)}"
        images = sample_images(model, len(levels), count, BATCH, SEED, title, levels)
        return comparison.distance_to_training(images)

    for nfe in sorted(nfes):
        before = list(model.scheduler.few_step_sigmas(nfe))
        starts = [before, [first, *before[1:]]] if _falls(first, before) else [before]
        after, tried = search_levels(score, starts)
        first = first or after[0]
        results[nfe] = {"before": before, "after": after, "tried": tried}
        scores = {tuple(levels): value for levels, value in tried}
        print(
            f"NFE {nfe}: levels {_text(before)} -> {_text(after)}, distance of {count} samples to"
            f" training images {scores[tuple(before)]:.2f} -> {scores[tuple(after)]:.2f}"
            f" ({len(tried)} tried)",
            flush=True,
        )
    space = {"feature_space": comparison.spaces[0].name, "num_samples": count, "seed": SEED}
    write_json(output / "tuning.json", space | {"levels": results})
    known = {str(nfe): levels for nfe, levels in model.scheduler.few_step_table.items()}
    found = {str(nfe): result["after"] for nfe, result in results.items()}
    for path, config in configs.items():
        write_json(path, config | {"few_step_sigmas": known | found})
        print(f"{path}: levels of NFE {', '.join(found)} written; tuning.json keeps the old ones")
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
