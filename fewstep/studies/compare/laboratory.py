"""Train and score cells, each in a folder of its own, so that nothing finished is done again."""

import gc
import time
from pathlib import Path

import numpy as np
import torch

from custom_model import create_custom_model
from fewstep.engine.log import read_rows
from fewstep.runs.building import open_images
from fewstep.runs.command_line import parse_settings
from fewstep.runs.estimate import training_seconds
from fewstep.runs.run_folder import CONFIG_NAME, own_teacher
from fewstep.runs.settings import flat
from fewstep.runs.weights import weights_digest
from fewstep.scores import Scorer, random_feature_space
from fewstep.studies.compare.cells import (
    DEFAULT_METHOD,
    as_arguments,
    make_cells,
    merged,
    method_of,
    teacher_flags,
    training_flags,
)
from fewstep.studies.compare.lengths import LENGTHS, cell_steps
from fewstep.studies.evaluate.pictures import strip_of
from fewstep.studies.evaluate.series import model_series, real_series, score_series
from fewstep.studies.training import run_training
from src.utils import UserError, load_model, pick_device, read_json, save_picture, write_json

STRIP = "samples.png"
BATCH = 50  # of sampling
SAMPLING_SEED = 0  # the same noise for every model
ANY_STEPS = 10**9  # in checks before the steps are known


class Laboratory:
    """One comparison in `folder`: a plan, its teacher, and what its cells gave.

    Making one reads and writes nothing; it raises `UserError` for base flags that cannot be.
    """

    def __init__(self, plan, folder):
        self.plan, self.folder = plan, Path(folder)
        self.settings = parse_settings(as_arguments(plan["base"]))[0]
        self.device = pick_device(self.settings.run.device)
        with_teacher = {method_of(plan, cell).needs_teacher for cell in make_cells(plan)}
        self.needs_teacher, self.is_mixed = True in with_teacher, len(with_teacher) == 2
        named = plan["base"].get("teacher_ckpt")
        self.trains_teacher = self.needs_teacher and not named
        self.teacher = Path(named) if named else own_teacher(self.folder / "teacher")
        self.digests = {}  # of all that scores depend on beside the plan

    def refusal(self, cell):
        """Why the flags of a cell cannot be, or None."""
        try:
            self._settings(cell, ANY_STEPS if self.plan["minutes"] else self.plan["steps"])
        except UserError as error:
            return str(error)
        return None

    def has_score(self, cell):
        """Whether a cell has been scored before (perhaps under other settings)."""
        return (self.place(cell) / "score.json").exists()

    def place(self, cell):
        """The folder of a cell."""
        return self.folder / "cells" / cell.folder

    def estimate(self, cell):
        """(steps, seconds) of a cell's training, from steps timed here. Raises `UserError` for
        flags that cannot be."""
        method, minutes = method_of(self.plan, cell), self.plan["minutes"]
        extra = 0 if method.needs_teacher else self.teacher_seconds()
        settings = self._settings(cell, ANY_STEPS if minutes else None)
        steps = cell_steps(self.plan, settings, method, self.device, extra)
        settings = self._settings(cell, steps)  # refuses what so few steps cannot hold
        seconds = 60 * minutes + extra if minutes else training_seconds(settings, self.device)
        gc.collect()  # the timed networks refer to each other in circles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return steps, seconds

    def teacher_seconds(self):
        """Seconds of the teacher's training, which cells without a teacher are given as well: 0
        unless minutes are compared and `count_teacher` says so."""
        if not (self.is_mixed and self.plan["minutes"] and self.plan["count_teacher"]):
            return 0
        record = self.teacher.parent.parent / CONFIG_NAME
        if record.exists() and "teacher_seconds" in (content := read_json(record)):
            return content["teacher_seconds"]
        if not self.trains_teacher:
            raise UserError(f"count_teacher: {record} has no teacher_seconds; set it to false")
        flags = teacher_flags(self.plan, self.folder / "teacher")
        return training_seconds(parse_settings(as_arguments(flags))[0], self.device)

    def check_folder(self):
        """Raise `UserError` if the folder holds cells of another base, of which one table would
        compare nothing. Returns what to write there."""
        groups = self.settings.as_dict()
        groups.pop("run")
        now = flat(groups) | {key: self.plan[key] for key in (*LENGTHS, "count_teacher")}
        now["method"] = self.plan["base"].get("method", DEFAULT_METHOD)
        path = self.folder / "base.json"
        before = read_json(path) if path.exists() else now
        for key, value in now.items():
            # A setting that is newer than the folder had what is its default now.
            if before.get(key, value) != value:
                raise UserError(
                    f"{self.folder}: holds a comparison with {key} = {before[key]}, not {value};"
                    " give the same base and length, or another --save_dir"
                )
        return now

    def prepare(self):
        """Open the images, train the shared teacher unless it is finished or not needed, and
        score the baseline."""
        images = open_images(self.settings)
        write_json(self.folder / "base.json", self.check_folder())
        if self.trains_teacher:
            flags = teacher_flags(self.plan, self.folder / "teacher")
            self._train(flags, self.folder / "teacher" / "output.txt")
        self.spaces, self.reference_count = [random_feature_space()], len(images.val)
        self.scorer = Scorer(self.spaces[0], np.asarray(images.val.images), self.device)
        self.digests = {"images": images.train.digest, "heldout": images.val.digest}
        self.digests["space"] = self.spaces[0].digest
        teacher = None
        if self.needs_teacher:
            teacher = load_model(self.teacher, create_custom_model, self.device)
            self.digests["teacher"] = weights_digest(teacher)
        self.baseline = self._baseline(teacher, images)

    def run(self, cell):
        """Train and score a cell; returns its score, from its folder where that is there already.

        The score: training steps and minutes, sentinels of the last row of its log, and a row of
        scores for each NFE; samples.png in the folder shows some images of the first NFE. Raises
        `UserError` when training fails; what it printed is in output.txt.
        """
        folder, steps = self.place(cell), self._steps(cell)
        groups = self._settings(cell, steps).as_dict()
        groups.pop("run")
        identity = flat(groups) | self.digests | {"seed": cell.seed}
        identity["method"] = merged(self.plan["base"], cell.flags).get("method", DEFAULT_METHOD)
        identity |= {key: self.plan[key] for key in ("nfe_list", "num_samples")}
        done = folder / "score.json"
        if done.exists() and (score := read_json(done)).get("identity") == identity:
            return score
        run = folder / "run"
        places = {"save_dir": run, "export_dir": run / "export"}
        self._train(self._flags(cell, steps) | places, folder / "output.txt")
        last = [row for row in read_rows(run / "log.jsonl") if "concern" not in row][-1]
        minutes = read_json(run / CONFIG_NAME)["training_seconds"] / 60
        model = load_model(run / "final_model.pt", create_custom_model, self.device)
        score = {"identity": identity, "steps": steps, "minutes": minutes}
        score |= {key: last.get(key) for key in ("spread", "detail")}
        score["rows"] = self._rows(model, cell.title, self.plan["nfe_list"], folder / STRIP)
        write_json(done, score)
        return score

    def scores(self, pixels, seed, generated=True):
        """What `score_series` asks of a comparison: here the distance alone."""
        return {self.spaces[0].name: {"frechet": self.scorer.distance(pixels)}}

    def _flags(self, cell, steps):
        return training_flags(self.plan, cell, self.teacher, steps)

    def _settings(self, cell, steps):
        return parse_settings(as_arguments(self._flags(cell, steps)))[0]

    def _steps(self, cell):
        """The steps of a cell; timed once for all its seeds, and never again on a rerun."""
        path = self.place(cell).parent / "steps.json"
        if not self.plan["minutes"]:
            settings = self._settings(cell, self.plan["steps"])
            return cell_steps(self.plan, settings, method_of(self.plan, cell), self.device)
        if not path.exists():
            steps, seconds = self.estimate(cell)
            write_json(path, {"steps": steps, "estimated_seconds": round(seconds)})
        return read_json(path)["steps"]

    def _train(self, flags, output):
        began = time.perf_counter()
        code, ending = run_training(as_arguments(flags), output)
        if code:
            raise UserError(f"exit code {code}: {ending} (see {output})")
        print(f"  trained in {(time.perf_counter() - began) / 60:.1f} min", flush=True)

    def _baseline(self, teacher, images):
        """Rows of scores: the floor, and the teacher (None: there is none); measured once."""
        count, steps = self.plan["num_samples"], self.settings.teacher.teacher_steps
        known = self.digests | {"num_samples": count, "teacher_steps": steps}
        path = self.folder / "baseline.json"
        if path.exists() and (before := read_json(path)).get("identity") == known:
            return before["rows"]
        rows, _ = score_series([real_series(images.train, count)], self, [SAMPLING_SEED])
        if teacher:
            nfes = list(dict.fromkeys([steps, 1]))
            rows += self._rows(teacher, "teacher", nfes, self.folder / f"teacher_{STRIP}")
        write_json(path, {"identity": known, "rows": rows})
        return rows

    def _rows(self, model, title, nfes, strip):
        """Rows of scores of a model; images of the first NFE are drawn in the file `strip`."""
        size = (self.plan["num_samples"], BATCH)
        parts = [(f"{title}, NFE {nfe}", title, nfe, model, None) for nfe in nfes]
        series = [model_series(*part, *size) for part in parts]
        rows, images = score_series(series, self, [SAMPLING_SEED])
        save_picture(strip_of(images[series[0].title]), strip)
        return rows
