"""Score all models of a real run that are there, a row at a time; a rerun goes on with the rest.

    python -m headline.score --work DIR --num_samples 1000 --seeds 42 43 44 -- DATA FLAGS

First the student's levels are tuned on training images (once). Rows go to DIR/scores/NAME.json,
each with its first images beside it. Networks run uncompiled, in fp32 or on a GPU in TF32, as the
plain sampler runs them.
"""

import sys
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from custom_model import create_custom_model
from evaluation.pictures import real_images, sample_images
from evaluation.series import Series, score_series
from evaluation.subjects import LEAST, fingerprint, open_subjects
from evaluation.tables import without_folders
from evaluation.tuning import tune_student
from headline.collect import REAL
from headline.rectified_flow import create_flow
from metrics import random_feature_space
from metrics.comparison import Comparison
from speed.attention import fuse_attention
from speed.backends import lay_out, prepare_backends
from src.arguments import MOST_IMAGES, InRange, whole_number
from src.utils import (
    CommandParser,
    load_model,
    pick_device,
    read_json,
    run_command,
    whole_file,
    write_json,
)
from training.building import open_images
from training.command_line import parse_settings
from training.hardware import hardware

BATCH = 100  # of sampling
SHOWN = 16  # images kept of each row
MOST_EULER = 8  # evaluations of the teacher that are taken as Euler steps; up to 2 either is Euler
NFES = (1, 2, 4)
# Kinds of rows in the order in which they are scored; the table has that of `rows_of`.
FIRST = ["real", "student", "teacher", "flow", "untuned student"]
FIRST += ["discriminator only", "distillation only"]


class Subject(NamedTuple):
    """A model to score: `kind` is the row's model, `weights` its file, `create` its maker."""

    name: str
    title: str
    kind: str
    weights: Path
    create: callable


def subjects_of(work):
    """All models a run can have, whether there or not, in the order of the table."""
    work = Path(work)
    edm = create_custom_model
    return [
        Subject("flow", "rectified flow", "flow", work / "flow" / "model.pt", create_flow),
        Subject("teacher", "teacher", "teacher", work / "teacher" / "teacher" / "model.pt", edm),
        Subject("student", "student", "student", work / "student" / "final_model.pt", edm),
        Subject(
            "disc_only",
            "discriminator only",
            "discriminator only",
            work / "disc_only" / "final_model.pt",
            edm,
        ),
        Subject(
            "distill_only",
            "distillation only",
            "distillation only",
            work / "distill_only" / "final_model.pt",
            edm,
        ),
    ]


class Row(NamedTuple):
    """A row of the table: its file's name, title, model, evaluations, subject and levels (None: the
    subject's own)."""

    name: str
    title: str
    kind: str
    nfe: int | None
    subject: Subject | None
    levels: list | None


def rows_of(subjects, teacher_nfes, tuned):
    """The rows of the subjects that are there, real images first.

    tuned: {NFE as text: {"before": levels, "after": levels}} of the student, or {}.
    """
    rows = [Row(REAL, "real training images", "real", None, None, None)]
    for subject in subjects:
        if not subject.weights.is_file():
            continue
        for nfe in teacher_nfes if subject.kind == "teacher" else NFES:
            name, title = f"{subject.name}_{nfe}", f"{subject.title}, NFE {nfe}"
            title += " (Euler)" * (_sampler(subject.kind, nfe) == "euler" and nfe > 2)
            levels = tuned.get(str(nfe)) if subject.kind == "student" else None
            after = levels and levels["after"]
            rows.append(Row(name, title, subject.kind, nfe, subject, after))
            if levels:
                told = f"{name}_before", f"{title}, before tuning", "untuned student"
                rows.append(Row(*told, nfe, subject, levels["before"]))
    return rows


def score_rows(rows, images, comparison, folder, num_samples, seeds, device):
    """Score what has no file in `folder` yet for these weights, images and numbers; files of rows
    that were scored for others go first. What most depends on comes first."""
    common = {"num_samples": num_samples, "seeds": seeds, "images": images.train.digest}
    common |= {"heldout": images.val.digest, "classify": comparison.classify}
    open_rows, model = [], (None, None)
    for row in rows:
        weights = row.subject and fingerprint(row.subject.weights)["weights_sha256"]
        identity, path = common | {"levels": row.levels, "weights": weights}, _file(folder, row)
        if not path.exists() or read_json(path).get("identity") != identity:
            path.unlink(missing_ok=True)
            open_rows.append((row, identity))
    for row, identity in sorted(open_rows, key=lambda pair: FIRST.index(pair[0].kind)):
        if row.subject and model[0] != row.subject:
            model = row.subject, _loaded(row.subject, device)

        def sample(seed, row=row, network=model[1]):
            if not row.subject:
                return real_images(images.train, num_samples, seed)
            if row.kind == "teacher":
                network.sampler = _sampler(row.kind, row.nfe)
            told = row.title, row.levels
            return sample_images(network, row.nfe, num_samples, BATCH, seed, *told)

        series = Series(row.title, row.kind, row.nfe, sample)
        (scored,), shown = score_series([series], comparison, seeds)
        with whole_file(folder / f"{row.name}.npz") as temporary:
            np.savez(temporary, images=shown[row.title][:SHOWN])
        write_json(_file(folder, row), {"identity": identity, "row": scored})


def _sampler(kind, nfe):
    """The teacher's sampler: with few evaluations Heun's steps are so long that Euler's (DDIM's)
    are much the better, and the student is to be compared with the better one."""
    return "euler" if kind == "teacher" and nfe <= MOST_EULER else "heun"


def _file(folder, row):
    return folder / f"{row.name}.json"


def _loaded(subject, device):
    model = load_model(subject.weights, subject.create, device).eval()
    fuse_attention(model)
    return lay_out(model, device, "auto")


def tune(work, comparison, samples, device, data_flags):
    """Tune the student's levels once for its weights; {NFE as text: {"before", "after", ...}}."""
    folder, checkpoint = Path(work) / "scores", Path(work) / "student" / "final_model.pt"
    if not (samples and checkpoint.is_file()):
        return {}
    done = folder / "tuned.json"
    identity = {"weights": fingerprint(checkpoint)["weights_sha256"], "samples": samples}
    if not done.exists() or read_json(done)["identity"] != identity:
        subjects = open_subjects(Path(work) / "student", None, None, data_flags, device)
        fuse_attention(subjects.student)
        lay_out(subjects.student, device, "auto")
        tune_student(subjects, comparison, NFES, samples, folder)
        levels = read_json(folder / "tuning.json")["levels"]
        write_json(done, {"identity": identity, "levels": levels})
    return read_json(done)["levels"]


def score(args, settings):
    work, device = Path(args.work), pick_device(settings.run.device)
    folder = work / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    prepare_backends(device, tf32=True)
    torch.backends.cudnn.benchmark = False  # last batches have shapes of their own
    images, data = open_images(settings), settings.data
    space = random_feature_space()
    comparison = Comparison(
        [space],
        images.val.images,
        images.train.images,
        data.cache_dir,
        device,
        mirrored=data.x_flip,
        classify=not args.no_auc,
    )
    write_json(
        folder / "facts.json",
        {
            "reference": without_folders(images.description),
            "reference_count": len(images.val),
            "training_count": len(images.train),
            "num_samples": args.num_samples,
            "seeds": args.seeds,
            "date": date.today().isoformat(),
            "hardware": hardware(device),
            "spaces": [{"name": space.name, "sha256": space.digest, "is_fid": space.is_fid}],
        },
    )
    flags = {key: getattr(data, key) for key in ("data_root", "train_split", "val_split")}
    flags = {key: value for key, value in flags.items() if value} | {"cache_dir": data.cache_dir}
    tuned = tune(work, comparison, args.tune_samples, device, flags)
    rows = rows_of(subjects_of(work), args.teacher_nfe_list, tuned)
    write_json(folder / "order.json", {"rows": [row.name for row in rows]})
    score_rows(rows, images, comparison, folder, args.num_samples, args.seeds, device)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="python -m headline.score", description=__doc__)
    parser.add_argument("--work", required=True, help="folder of the run")
    add_score_flags(parser)
    end = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:end])
    args.seeds = list(dict.fromkeys(args.seeds))
    args.teacher_nfe_list = list(dict.fromkeys(args.teacher_nfe_list))
    score(args, parse_settings(argv[end + 1 :], parser.prog)[0])


def add_score_flags(parser):
    """The flags of scoring, which `python -m headline` passes on."""
    for name, default, low, text in (
        ("num_samples", 1000, LEAST, "images of each row and seed"),
        ("tune_samples", 500, 0, "images of each trial of the levels' search; 0: no search"),
        ("seeds", [42, 43, 44], 0, "of sampling"),
        ("teacher_nfe_list", [35, 4, 2, 1], 1, "network evaluations of the teacher's rows"),
    ):
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        told = dict(default=default, help=f"{text} ({shown})", low=low, high=MOST_IMAGES)
        count = {"nargs": "+"} if isinstance(default, list) else {}
        parser.add_argument(f"--{name}", type=whole_number, action=InRange, **told, **count)
    parser.add_argument("--no_auc", action="store_true", help="skip the classifier two-sample test")


if __name__ == "__main__":
    run_command(main)
