"""Train and score cells, each in a folder of its own, so that nothing finished is done again."""

import gc
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from custom_model import create_custom_model
from fewstep.engine.log import read_rows
from fewstep.runs.building import open_images
from fewstep.runs.command_line import parse_settings
from fewstep.runs.estimate import fitting_steps, phase_seconds, student_seconds
from fewstep.runs.identity import phase_identity, weights_digest
from fewstep.runs.run_folder import own_teacher
from fewstep.runs.settings import flat
from fewstep.scores import Scorer, random_feature_space
from fewstep.studies.compare.plan import as_arguments, merged
from fewstep.studies.evaluate.pictures import real_images, sample_images, strip_of
from src.utils import UserError, load_model, pick_device, read_json, save_picture, write_json

ROOT = Path(__file__).resolve().parents[3]
STRIP = "samples.png"
BATCH = 50  # of sampling
SAMPLING_SEED = 0  # the same noise for every model
ANY_STEPS = 10**9  # in checks before the steps are known


class Laboratory:
    """One ablation in `folder`: a plan, its teacher, and what its cells gave.

    Making one reads and writes nothing; it raises `UserError` for base flags that cannot be.
    """

    def __init__(self, plan, folder):
        self.plan, self.folder = plan, Path(folder)
        self.settings = parse_settings(as_arguments(plan["base"]))[0]
        self.device = pick_device(self.settings.run.device)
        named = plan["base"].get("teacher_ckpt")
        self.trains_teacher = not named
        self.teacher = Path(named) if named else own_teacher(self.folder / "teacher")

    def refusal(self, cell):
        """Why the flags of a cell cannot be, or None."""
        try:
            self._settings(cell, ANY_STEPS if self.plan["minutes"] else None)
        except UserError as error:
            return str(error)
        return None

    def has_score(self, cell):
        """Whether a cell has been scored before (perhaps under other settings)."""
        return (self._place(cell) / "score.json").exists()

    def estimate(self, cell):
        """(steps, seconds) of a cell's training, from steps timed here; with `minutes` in the plan
        as many steps as fit. Raises `UserError` for flags that cannot be."""
        minutes = self.plan["minutes"]
        settings = self._settings(cell, ANY_STEPS if minutes else None)
        times = student_seconds(settings, self.device)
        gc.collect()  # the timed networks refer to each other in circles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if not minutes:
            return settings.student.student_iterations, phase_seconds(settings, times)
        steps = fitting_steps(settings, times, 60 * minutes)
        return steps, phase_seconds(self._settings(cell, steps), times)

    def check_folder(self):
        """Raise `UserError` if the folder holds cells of another base, of which one table would
        compare nothing. Returns what to write there."""
        groups = self.settings.as_dict()
        groups.pop("run")
        now = flat(groups) | {"minutes": self.plan["minutes"]}
        path = self.folder / "base.json"
        before = read_json(path) if path.exists() else now
        # A setting that is newer than the folder had what is its default now.
        other = [key for key in now if before.get(key, now[key]) != now[key]]
        if other:
            key = other[0]
            raise UserError(
                f"{self.folder}: holds an ablation with {key} = {before.get(key)}, not {now[key]};"
                " give the same base and minutes, or another --save_dir"
            )
        return now

    def prepare(self):
        """Open the images, train the shared teacher unless it is finished, measure the baseline."""
        images = open_images(self.settings)
        write_json(self.folder / "base.json", self.check_folder())
        if self.trains_teacher:
            flags = self.plan["base"] | {"phase": "teacher", "save_dir": self.folder / "teacher"}
            _train(as_arguments(flags), self.folder / "teacher" / "output.txt")
        model = load_model(self.teacher, create_custom_model, self.device)
        space = random_feature_space()
        self.scorer = Scorer(space, np.asarray(images.val.images), self.device)
        self.reference_count = len(images.val)
        # What a score depends on beside its cell and plan.
        self.digests = {
            "teacher": weights_digest(model),
            "images": images.train.digest,
            "heldout": images.val.digest,
            "space": space.digest,
        }
        self.baseline = self._baseline(model, images)

    def run(self, cell):
        """Train and score a cell; returns its score, from its folder where that is there already.

        The score: training steps and minutes, sentinels of the last row, and a distance for each
        NFE; samples.png in the folder shows some images of the first NFE. Raises `UserError` when
        training fails; what it had said is in output.txt.
        """
        folder = self._place(cell)
        steps = self._steps(cell)
        identity = phase_identity(self._settings(cell, steps), "student", self.digests)
        identity |= {key: self.plan[key] for key in ("nfe_list", "num_samples")}
        done = folder / "score.json"
        if done.exists() and (score := read_json(done)).get("identity") == identity:
            return score
        places = {"save_dir": folder / "run", "export_dir": folder / "run" / "export"}
        _train(self._arguments(cell, steps) + as_arguments(places), folder / "output.txt")
        rows = [row for row in read_rows(folder / "run" / "log.jsonl") if "concern" not in row]
        record = read_json(folder / "run" / "training_config.json")
        model = load_model(folder / "run" / "final_model.pt", create_custom_model, self.device)
        score = {"identity": identity, "steps": steps, "minutes": record["student_seconds"] / 60}
        score |= {key: rows[-1].get(key) for key in ("spread", "detail")}
        nfes = self.plan["nfe_list"]
        score["distance"] = self._distances(model, nfes, cell.title, folder / STRIP)
        write_json(done, score)
        return score

    def strips(self, results):
        """[(title, picture file)] of the teacher and of the cells that have a score."""
        nfe = self.plan["nfe_list"][0]
        teacher = f"teacher, NFE {self.settings.teacher.teacher_steps}"
        found = [(teacher, self.folder / f"teacher_{STRIP}")]
        for cell, score, _ in results:
            if score:
                distance = score["distance"][str(nfe)]
                title = f"{cell.title} seed={cell.seed}, NFE {nfe}: distance {distance:.1f}"
                found.append((title, self._place(cell) / STRIP))
        return [(title, path) for title, path in found if path.exists()]

    def _place(self, cell):
        return self.folder / "cells" / cell.folder

    def _settings(self, cell, steps=None):
        return parse_settings(self._arguments(cell, steps))[0]

    def _arguments(self, cell, steps):
        """train.py's arguments of a cell; its folders come on top."""
        flags = merged(self.plan["base"], cell.flags) | {"phase": "add", "seed": cell.seed}
        flags |= {"teacher_ckpt": self.teacher}
        return as_arguments(flags | ({"student_iterations": steps} if steps else {}))

    def _steps(self, cell):
        """The steps of a cell; timed once for all its seeds, and never again on a rerun."""
        if not self.plan["minutes"]:
            return self._settings(cell).student.student_iterations
        path = self._place(cell).parent / "steps.json"
        if path.exists():
            return read_json(path)["steps"]
        steps, seconds = self.estimate(cell)
        write_json(path, {"steps": steps, "estimated_seconds": round(seconds)})
        return steps

    def _baseline(self, model, images):
        """The floor and the teacher, as {title: {what: distance}}; measured once."""
        count, steps = self.plan["num_samples"], self.settings.teacher.teacher_steps
        known = self.digests | {"num_samples": count, "teacher_steps": steps}
        path = self.folder / "baseline.json"
        if path.exists() and (before := read_json(path)).get("identity") == known:
            return before["distance"]
        real = real_images(images.train, count, SAMPLING_SEED)
        floor = self.scorer.distance(real)
        nfes = list(dict.fromkeys([steps, 1]))
        taught = self._distances(model, nfes, "teacher", self.folder / f"teacher_{STRIP}")
        distance = {
            "real training images (the floor)": {f"n={len(real)}": floor},
            "teacher": {f"NFE {nfe}": value for nfe, value in taught.items()},
        }
        write_json(path, {"identity": known, "distance": distance})
        return distance

    def _distances(self, model, nfes, title, strip):
        """{NFE as text: distance} of fresh samples; the first NFE's are shown in file `strip`."""
        distances = {}
        for nfe in nfes:
            count, told = self.plan["num_samples"], f"{title}, NFE {nfe}"
            pixels = sample_images(model, nfe, count, BATCH, SAMPLING_SEED, told)
            if not distances:
                save_picture(strip_of(pixels), strip)
            distances[str(nfe)] = self.scorer.distance(pixels)
        return distances


def _train(arguments, output):
    """train.py in a process of its own: one that dies takes nothing else with it.

    When this process is told to stop, so is that one, and its checkpoint is waited for.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with open(output, "a") as file:
        command = [sys.executable, str(ROOT / "train.py"), *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # one signal more does no harm where it has had its own
            process.wait()
            raise
    if code in (130, 143):
        raise KeyboardInterrupt
    if code:
        reason = _reason(output.read_text(errors="replace").splitlines())
        raise UserError(f"exit code {code}: {reason} (see {output})")
    print(f"  trained in {(time.perf_counter() - began) / 60:.1f} min", flush=True)


def _reason(lines):
    """The line of a program's output that says why it ended: its last error, else its last line."""
    lines = [line for line in lines if line.strip()]
    errors = [line for line in lines if re.match(r"(error: |[\w.]+(Error|Exception)\b)", line)]
    return [*lines, *errors][-1] if lines else "no output"
