"""Train and score cells, each in a folder of its own, so that nothing finished is done again."""

import gc
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from custom_model import create_custom_model
from fewstep.engine.batches import to_float
from fewstep.engine.checkpoints import has_checkpoints
from fewstep.engine.lock import sole_use, use_after_others
from fewstep.engine.log import read_rows
from fewstep.images import evenly
from fewstep.methods.sentinels import MOST_IMAGES, measure
from fewstep.runs.building import load_weights, open_images
from fewstep.runs.command_line import parse_settings
from fewstep.runs.estimate import training_seconds
from fewstep.runs.flag_values import as_arguments
from fewstep.runs.run_folder import CONFIG_NAME, own_teacher
from fewstep.runs.settings import STARTS, STEPS_FLAGS, exporting, flat, phases_of
from fewstep.scores.comparison import PIXELS, Comparison
from fewstep.scores.folders import common_count, say_if_few
from fewstep.scores.spaces import feature_spaces, free_names
from fewstep.studies.compare.cells import (
    cell_steps,
    make_cells,
    method_of,
    shares_teacher,
    teacher_flags,
    training_flags,
)
from fewstep.studies.compare.report import STRIP, TEACHER_STRIP
from fewstep.studies.evaluate.pictures import labelled_sheet, strip_of
from fewstep.studies.evaluate.series import model_series, real_series, score_series
from fewstep.studies.evaluate.tables import space_record
from fewstep.studies.training import run_training
from src.feedback import Progress
from src.published import named_file
from src.utils import (
    UserError,
    file_digest,
    load_model,
    pick_device,
    read_json,
    save_picture,
    weights_digest,
    write_json,
)

BATCH = 50  # of sampling
SAMPLING_SEED = 0  # the same noise for every model
SCORE = "score.json"  # of a cell, in its folder
STEPS = "steps.json"  # those that minutes came to, of all seeds of a cell, in the folder above
ANY_STEPS = 10**9  # in checks before the steps are known


class Laboratory:
    """One comparison in `folder`: a plan, its teacher, and what its cells gave.

    Making one reads and writes nothing; it raises `UserError` for base flags that cannot be.
    """

    def __init__(self, plan, folder):
        self.plan, self.folder = plan, Path(folder)
        self.settings = parse_settings(as_arguments(plan["base"]))[0]
        self.device = pick_device(self.settings.run.device)
        with_teacher = {shares_teacher(method_of(plan, cell)) for cell in make_cells(plan)}
        self.needs_teacher, self.is_mixed = True in with_teacher, len(with_teacher) == 2
        named = named_file(plan["base"].get("teacher_ckpt"))
        self.trains_teacher = self.needs_teacher and not named
        self.teacher = Path(named) if named else own_teacher(self.folder / "teacher")

    def check(self, cell):
        """Raise `UserError` if the flags of a cell cannot be."""
        given = cell.steps or self.plan["steps"]
        self._settings(cell, ANY_STEPS if self._is_timed(cell) else given)

    def check_lengths(self, cells):
        """Raise `UserError` where the folder has trainings of another length than the plan says:
        side by side in a table they would say nothing."""
        if self.trains_teacher:
            check_lengths(teacher_flags(self.plan, self.folder / "teacher"))
        for cell in cells:
            if not self._is_timed(cell):
                run = {"save_dir": self.place(cell) / "run"}
                check_lengths(self._flags(cell, self._steps(cell)) | run)
                continue
            family, wanted = self.place(cell).parent, self.plan["minutes"]
            if not _has_begun(family):
                continue
            path = family / STEPS
            minutes = read_json(path)["identity"]["minutes"] if path.exists() else None
            if minutes != wanted:
                begun = "steps, not" if minutes is None else f"minutes {minutes:g}, not"
                raise UserError(
                    f"{family}: was begun with {begun} minutes {wanted:g}; give the same, or"
                    " another --save_dir"
                )

    def _is_timed(self, cell):
        """Whether minutes say how long the cell trains."""
        return bool(self.plan["minutes"] and not cell.steps)

    def place(self, cell):
        """The folder of a cell."""
        return self.folder / "cells" / cell.folder

    def estimate(self, cell):
        """(steps, seconds) of a cell's training, from steps timed here. Raises `UserError` for
        flags that cannot be."""
        method, is_timed = method_of(self.plan, cell), self._is_timed(cell)
        with Progress(f"timing steps of {cell.title}"):
            added = 0 if shares_teacher(method) else self.added_seconds()
            extra = 0 if method.needs_teacher else added  # else its own teacher takes them
            settings = self._settings(cell, ANY_STEPS if is_timed else cell.steps)
            steps = cell.steps or cell_steps(self.plan, settings, method, self.device, extra)
            settings = self._settings(cell, steps)  # refuses what so few steps cannot hold
            if is_timed:
                seconds = 60 * self.plan["minutes"] + added
            else:
                seconds = training_seconds(settings, self.device)
        gc.collect()  # the timed networks refer to each other in circles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return steps, seconds

    @property
    def teacher_minutes(self):
        """Minutes of the shared teacher's training, None where its run does not say."""
        record = self.teacher.parent.parent / CONFIG_NAME
        seconds = read_json(record).get("teacher_seconds") if record.exists() else None
        return None if seconds is None else seconds / 60

    def added_seconds(self):
        """Seconds that cells without a teacher train beyond the plan's minutes: those of the
        teacher's training, where other cells have one."""
        if not (self.is_mixed and self.plan["minutes"]):
            return 0
        if self.teacher_minutes is not None:
            return 60 * self.teacher_minutes
        if not self.trains_teacher:
            record = self.teacher.parent.parent / CONFIG_NAME
            raise UserError(f"minutes: {record} has no teacher_seconds; compare equal steps")
        flags = teacher_flags(self.plan, self.folder / "teacher")
        return training_seconds(parse_settings(as_arguments(flags))[0], self.device)

    def prepare(self):
        """Open the images, train the shared teacher unless it is finished or not needed, and
        score the baseline. Of several processes in a folder one does, and the others wait."""
        with use_after_others(self.folder):
            self._prepare()

    def _prepare(self):
        images = open_images(self.settings)
        say_if_few(len(images.val), "images are held out")
        count = common_count(self.plan["num_samples"], {}, len(images.train))
        self.plan = self.plan | {"num_samples": count}
        say_if_few(count, "images of each cell are scored")
        if self.trains_teacher:
            flags = teacher_flags(self.plan, self.folder / "teacher")
            self._train(flags, self.folder / "teacher" / "output.txt")
        spaces, heldout = feature_spaces(free_names()), np.asarray(images.val.images)
        self.spaces = [space_record(space) for space in spaces]
        self.comparison = Comparison(spaces, heldout, device=self.device)
        self.digests = {"images": images.train.digest, "heldout": images.val.digest}
        self.digests["spaces"] = [space.digest for space in spaces]
        teacher = None
        if self.needs_teacher:
            teacher, _ = load_weights("base teacher_ckpt", self.teacher, self.device)
            self.digests["teacher"] = weights_digest(teacher)
        self.baseline = self._baseline(teacher, images)
        for cell in make_cells(self.plan):  # before other processes train beside this one
            with suppress(Exception):  # of whatever kind: it is said in the cell's turn
                self._steps(cell)

    def sole_use(self, cell):
        """A context that has the cell's folder alone; raises `InUse` where another process does."""
        return sole_use(self.place(cell))

    def run(self, cell):
        """Train and score a cell; returns its score, from its folder where that is there already.

        The score: training steps and minutes, `balance_of`, a row of the table for each NFE;
        samples.png in the folder shows some images of the first NFE. Raises `UserError` when
        training fails; what it printed is in output.txt.
        """
        if score := self.score_of(cell):
            return score
        folder, steps = self.place(cell), self._steps(cell)
        run = folder / "run"
        places = {"save_dir": run, "export_dir": run / "export"}
        self._train(self._flags(cell, steps) | places, folder / "output.txt")
        minutes = read_json(run / CONFIG_NAME)["training_seconds"] / 60
        model = load_model(run / "final_model.pt", create_custom_model, self.device)
        rows = self._rows(model, cell.title, self.plan["nfe_list"], folder / STRIP)
        score = {"identity": self._score_identity(cell, steps), "steps": steps}
        score |= {"minutes": minutes, "rows": rows} | balance_of(read_rows(run / "log.jsonl"))
        write_json(folder / SCORE, score)
        return score

    def score_of(self, cell):
        """The score in the cell's folder, None where none is there or it is of another plan."""
        path = self.place(cell) / SCORE
        if not path.exists():
            return None
        return _stored(path, self._score_identity(cell, self._steps(cell)))

    def _score_identity(self, cell, steps):
        settings = self._settings(cell, steps)
        identity = _identity(settings) | self.digests | {"seed": cell.seed}
        for flag in STARTS:
            if path := getattr(settings.run, flag):
                identity[f"{flag}_digest"] = file_digest(named_file(path)).hex()
        return identity | {key: self.plan[key] for key in ("nfe_list", "num_samples")}

    def _flags(self, cell, steps):
        return training_flags(self.plan, cell, self.teacher, steps)

    def _settings(self, cell, steps):
        return parse_settings(as_arguments(self._flags(cell, steps)))[0]

    def _steps(self, cell):
        """The steps of a cell; timed once for all its seeds, and never again on a rerun."""
        if cell.steps:
            return cell.steps
        if not self.plan["minutes"]:
            settings = self._settings(cell, self.plan["steps"])
            return cell_steps(self.plan, settings, method_of(self.plan, cell), self.device)
        family = self.place(cell).parent
        path, identity = family / STEPS, self._timing_identity(cell)
        with use_after_others(family):
            is_settled = path.exists() and _has_begun(family)
            if not is_settled and _stored(path, identity) is None:
                write_json(path, {"identity": identity, "steps": self.estimate(cell)[0]})
        return read_json(path)["steps"]

    def _timing_identity(self, cell):
        """What a cell's steps depend on where minutes say them, but for the machine."""
        more = {"minutes": self.plan["minutes"], "is_mixed": self.is_mixed}
        more["teacher"] = self.digests.get("teacher")
        return _identity(self._settings(cell, ANY_STEPS)) | more

    def _train(self, flags, output):
        check_lengths(flags)
        with use_after_others(Path(flags["save_dir"])):
            pass  # a training that outlived the process that had started it
        began = time.perf_counter()
        code, ending = run_training(as_arguments(flags), output)
        if code:
            raise UserError(f"exit code {code}: {ending} (see {output})")
        print(f"  trained in {(time.perf_counter() - began) / 60:.1f} min", flush=True)

    def _baseline(self, teacher, images):
        """Rows of scores: the floor, and the teacher (None: there is none); measured once."""
        count, steps = self.plan["num_samples"], self.settings.teacher.teacher_steps
        identity = self.digests | {"num_samples": count, "teacher_steps": steps}
        path = self.folder / "baseline.json"
        if (stored := _stored(path, identity)) is not None:
            return stored["rows"]
        rows, _ = self._scored([real_series(images.train, count)])
        if teacher:
            nfes, strip = list(dict.fromkeys([steps, 1])), self.folder / TEACHER_STRIP
            rows += self._rows(teacher, "teacher", nfes, strip)
        write_json(path, {"identity": identity, "rows": rows})
        return rows

    def _rows(self, model, title, nfes, path):
        """Rows of scores of a model; images of the first NFE are drawn in the picture `path`."""
        size = (self.plan["num_samples"], BATCH)
        series = [model_series(title, title, nfe, model, *size) for nfe in nfes]
        rows, images = self._scored(series)
        first = series[0].title
        save_picture(labelled_sheet([(first, strip_of(images[first]))]), path)
        return rows

    def _scored(self, series):
        return score_series(series, self.comparison.spaces, self._score, [SAMPLING_SEED])

    def _score(self, pixels, seed, generated):
        """The distances, and what training watches beside them, of uint8 `[N, H, W, 3]`."""
        distances = self.comparison.distances(pixels)
        scores = {space: {"frechet": distance} for space, distance in distances.items()}
        heldout = self.comparison.heldout
        both = pixels[:MOST_IMAGES], heldout[evenly(len(heldout), MOST_IMAGES)]
        sentinels = measure(*(to_float(torch.tensor(images)) for images in both))
        watched = {key: float(sentinels[key]) for key in ("spread", "detail")}
        return scores | {PIXELS: watched}


def balance_of(rows):
    """Of a student beside a discriminator, from the rows of its run's log: {"waited": in which
    share of the steps it waited, "lead": the discriminator's in the last row}; of others nothing.
    Each row is a mean over the steps since the one before."""
    rows = [row for row in rows if row.get("phase") == "student" and "concern" not in row]
    steps = [row["step"] - before["step"] for before, row in pairwise([{"step": 0}, *rows])]
    pairs = zip(rows, steps)
    waits = [(row["student_waits"], count) for row, count in pairs if "student_waits" in row]
    leads = [row["disc_lead"] for row in rows if row.get("disc_lead") is not None]
    balance = {}
    if waits:
        waited = sum(share * count for share, count in waits)
        balance["waited"] = waited / sum(count for _, count in waits)
    return balance | ({"lead": leads[-1]} if leads else {})


def check_lengths(flags):
    """Raise `UserError` where a run is there that these flags of train.py would take further: its
    schedules would not be those of runs of as many steps."""
    settings, folder = parse_settings(as_arguments(flags))[0], Path(flags["save_dir"])
    path, wanted = folder / CONFIG_NAME, flat(settings.as_dict())
    recorded = read_json(path).get("identities", {}) if path.exists() else {}
    for phase in phases_of(settings):
        flag = STEPS_FLAGS[phase]
        old, new = recorded.get(phase, {}).get(flag), wanted[flag]
        if old not in (None, new) and has_checkpoints(folder / phase):
            raise UserError(
                f"{folder}: was trained for {old:,} steps ({flag}), not {new:,}, and a comparison"
                " takes no run further; give the same length, or another --save_dir"
            )


def _has_begun(family):
    """Whether a cell's training has begun with one of its seeds."""
    return any(family.glob(f"seed_*/run/{CONFIG_NAME}"))


def _identity(settings):
    """What a training depends on beside its seed, flat and plain."""
    groups = settings.as_dict()
    run = groups.pop("run")
    own = ["method"]
    own += [name for name in STARTS if run[name]]
    exported = exporting(settings.run) if run["export"] == "best" else {}
    return {key: run[key] for key in own} | exported | flat(groups)


def _stored(path, identity):
    """What a file holds, if it is of these settings, else None."""
    content = read_json(path) if path.exists() else {}
    return content if content.get("identity") == identity else None
