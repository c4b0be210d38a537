"""The score of a student before and after rounding, from the same noise."""

from datetime import date

import numpy as np

from fewstep.engine.hardware import hardware
from fewstep.handin.packed.student import check_student, levels_of, rounded
from fewstep.runs.identity import weights_digest
from fewstep.scores import Scorer, distance_name
from fewstep.studies.evaluate.pictures import sample_images
from fewstep.studies.evaluate.subjects import open_subjects
from src.utils import read_json

BATCH = 50  # of sampling


def compare_scores(checkpoint, space, data_flags, nfe_list, count, seeds, device):
    """What `pack --notes` takes: distances to the held-out images, before and after, for each NFE
    and seed; and how far apart the images are.

    space: a feature space of `metrics`. data_flags: {flag of train.py: value}, the images. Raises
    `UserError` for what is no student or no images.
    """
    subjects = open_subjects(None, checkpoint, None, data_flags, device)
    student = subjects.student.eval()
    check_student(student, checkpoint)
    copy = rounded(student, read_json(subjects.checkpoint.with_name("model_config.json")))
    scorer = Scorer(space, np.asarray(subjects.images.val.images), device)
    rows = {}
    for nfe in nfe_list:
        row = rows[str(nfe)] = {"before": [], "after": [], "grey_levels": []}
        for seed in seeds:
            pictures = {}
            for when, model in (("before", student), ("after", copy)):
                title = f"{when}, NFE {nfe}, seed {seed}"
                pictures[when] = sample_images(model, nfe, count, BATCH, seed, title)
                row[when].append(round(scorer.distance(pictures[when]), 3))
            before, after = (pictures[when].astype(np.float32) for when in ("before", "after"))
            row["grey_levels"].append(round(float(np.sqrt(((after - before) ** 2).mean())), 3))
    return {
        "original_sha256": weights_digest(student),
        "what": distance_name(space.name, space.is_fid),
        "space_sha256": space.digest,
        "reference_count": len(subjects.images.val),
        "reference_sha256": subjects.images.val.digest,
        "num_samples": count,
        "seeds": seeds,
        "few_step_sigmas": levels_of(student),
        "hardware": hardware(device),
        "date": date.today().isoformat(),
        "nfe": rows,
    }


def comparison_lines(notes):
    """The notes of `compare_scores` as lines of text: means over the seeds."""
    count, seeds = notes["num_samples"], len(notes["seeds"])
    yield f"{notes['what']}, {count} images each, mean over {seeds} seed{'s' * (seeds > 1)}:"
    for nfe, row in notes["nfe"].items():
        before, after = np.mean(row["before"]), np.mean(row["after"])
        yield (
            f"  NFE {nfe}: {before:.2f} before, {after:.2f} after ({after - before:+.2f});"
            f" the images differ by {np.mean(row['grey_levels']):.2f} grey levels (RMS)"
        )
