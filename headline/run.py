"""Working off a real run: part after part, each a program that is stopped in time."""

import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from headline import programs, rates
from headline.children import ROOT, run_until
from headline.forecast import TRAININGS_OF, Forecast
from headline.state import State
from src.utils import UserError, read_json, write_json

STOP_SECONDS = {"cuda": 45.0, "cpu": 10.0}  # from SIGTERM to a checkpoint that is written
PUBLISH_SECONDS = {"cuda": 20.0, "cpu": 10.0}
LEAST_SECONDS = {"cuda": 30.0, "cpu": 5.0}  # of training that are worth a start


class Task(NamedTuple):
    """A program to run, with its expected seconds; whether it may be stopped and gone on with."""

    name: str
    arguments: list
    seconds: float
    is_stoppable: bool
    steps: int | None = None  # of a training


class RealRun:
    """The run of the flags of `headline.command_line` (a dict), in its folder `work`.

    began: `time.monotonic` of the command. Making one reads, and writes nothing. Raises `UserError`
    where the folder holds another run.
    """

    def __init__(self, flags, began):
        self.flags, self.work = flags, Path(flags["work"])
        kept = {key: flags[key] for key in ("preset", "batch_size", "base")}
        self.state = State(self.work, kept)
        for key, value in flags["student"].items():
            if self.state.student is not None and self.state.student.get(key) != value:
                told = f"the student in {self.work} has begun with {self.state.student.get(key)}"
                raise UserError(f"--student {key}={value}: {told}; give that, or another --work")
        self.forecast = Forecast(flags, self.state, began)
        self.device, self.did_work = self.forecast.device, False
        self.failed = []  # what has failed in this command
        end = self.forecast.began + 60 * flags["command_minutes"]
        self.kill_at = end - PUBLISH_SECONDS[self.device]
        self.stop_at = self.kill_at - STOP_SECONDS[self.device]

    def restart(self):
        """Seconds that a task loses when it goes on in another command."""
        return STOP_SECONDS[self.device] + self.forecast.start("teacher")

    def command_seconds(self):
        """Seconds of a command in which tasks run."""
        return self.kill_at - self.forecast.began

    def command_minutes_for(self, seconds):
        """The --command_minutes that leave so many seconds for tasks."""
        return (seconds + PUBLISH_SECONDS[self.device]) / 60

    def tasks(self, part):
        """The tasks of a part that are not done. Raises `UserError` where it cannot be."""
        if part in TRAININGS_OF:
            steps = self.forecast.steps()
            names = [name for name in TRAININGS_OF[part] if not self.state.is_done(name)]
            return [self._training(name, steps.get(name)) for name in names]
        if part != "weights" and self.state.is_done(self._key(part)):
            return []  # weights are packed anew: the results folder may have been emptied
        seconds = self.forecast.part(part)
        return [Task(part, self._arguments(part), seconds, part in ("screening", "score"))]

    def work_off(self):
        """Run the parts asked for; True when all are done or have failed, False when the time of
        this command is over. What fails is noted, and takes nothing else with it."""
        for part in self.flags["parts"]:
            tasks = self._tried(part, partial(self.tasks, part)) or []
            for task in tasks:
                if not self._has_time(task):
                    print(f"{task.name}: no time for it in this command", flush=True)
                    return False
                if self._tried(task.name, partial(self._run, part, task)) is False:
                    return False
        return True

    def _tried(self, name, work):
        """The result of `work()`; where that fails it is said and noted, and the result is None."""
        try:
            return work()
        except UserError as error:
            self.state.fail(name, str(error))
            self.failed.append(name)
            print(f"{name}: failed: {error}", flush=True)
            return None

    def take_measured(self):
        """Take the speed from the results of another run, where they were named and none is here;
        what it was measured on is kept beside."""
        path = self.work / "speed.json"
        if self.flags["measured"] and not path.exists():
            told = read_json(self.flags["measured"])
            write_json(path, {"device": told.get("hardware"), "rows": told["speed"], "taken": True})
        if path.exists() and read_json(path).get("taken"):
            self.state.finish("speed", ["speed"], note="taken from another run")

    def _run(self, part, task):
        print(f"{task.name}: about {task.seconds / 60:.1f} min", flush=True)
        self._settle(task)
        began, self.did_work, note = time.monotonic(), True, {}
        output = self.work / "output" / f"{task.name}.txt"
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(self.work / "compiled")}
        try:
            finished = run_until(task.arguments, output, self.stop_at, self.kill_at, cache)
        except UserError as error:
            if task.name != "screening" or not programs.screening_scores(self.work):
                raise
            finished, note = True, {"note": str(error)}  # some cells have failed, others not
        finally:
            self.state.spend(time.monotonic() - self.forecast.began)
        seconds = time.monotonic() - began
        print(f"  {'done' if finished else 'stopped'} after {seconds / 60:.1f} min", flush=True)
        if finished:
            key = self._key(part) if part == "score" else task.name
            self.state.finish(key, [part, task.name], **note)
        return finished

    def _settle(self, task):
        """Keep what a task begins with for the first time, so that a rerun goes on with it."""
        flags, forecast = self.flags, self.forecast
        is_distilled = task.name in ("screening", "student", *programs.HALVES)
        if is_distilled and not self.state.is_done("teacher"):
            raise UserError("there is no finished teacher; run the part teacher first")
        if task.name == "flow" and not {"teacher", "student"} <= set(self.state.steps):
            raise UserError("it takes as many images as teacher and student; run those first")
        if task.name == "student" and self.state.student is None:
            self.state.settle_student(forecast.student_flags())
        if task.steps and task.name not in self.state.steps:
            self.state.settle(task.name, task.steps)
        if task.name == "screening" and not (self.work / "screening.yaml").exists():
            steps, compiled = forecast.screening_steps()
            programs.write_screening(
                self.work,
                flags["preset"],
                flags["screen_sigmas"],
                steps,
                flags["batch_size"],
                self._common() | {"compile": compiled} | flags["base"],
                forecast.screening_samples(),
            )

    def _common(self):
        """Flags of all trainings."""
        names = ("preset", "data_root", "train_split", "val_split", "device", "batch_size")
        flags = {name: self.flags[name] for name in names if self.flags[name]}
        return flags | {"cache_dir": self.work / "cache"}

    def _training(self, name, steps):
        seconds, what = self.forecast.training(name, steps), self.forecast.what(name)
        arguments = programs.training_arguments(
            name,
            steps,
            self.work,
            self.flags["preset"],
            self.flags["batch_size"],
            self._common(),
            self.flags["base"],
            self.forecast.student_flags(),
            self.forecast.rate(what, seconds).compile,
        )
        return Task(name, arguments, seconds, True, steps)

    def _arguments(self, part):
        if part == "speed":
            discs, preset = self.forecast.discs_to_time(), self.flags["preset"]
            common = self._common() | self.flags["base"]
            return programs.speed_arguments(self.work, discs, preset, common)
        if part == "screening":
            return programs.screening_arguments(self.work)
        if part == "score":
            return programs.score_arguments(self.work, self._common(), **self._score_flags())
        if not (ROOT / "pretrained.py").is_file():
            raise UserError("there is no pretrained.py to pack the weights with")
        checkpoint = self.work / programs.WEIGHTS["student"]
        folder = self.flags["out"]
        return ["pretrained.py", "pack", f"--ckpt_path={checkpoint}", f"--output_dir={folder}"]

    def _score_flags(self):
        names = ("num_samples", "seeds", "teacher_nfe_list", "tune_samples", "no_auc")
        return {name: self.flags[name] for name in names}

    def _key(self, part):
        """What is noted when a part is done: scores, for these models and numbers alone."""
        if part != "score":
            return part
        there = [name for name in programs.TITLES if self.state.is_done(name)]
        return " ".join(map(str, ["score", *there, *self._score_flags().values()]))

    def _has_time(self, task):
        """Whether a task is worth beginning; the first of a command always is."""
        needed = task.seconds
        if task.is_stoppable:
            useful = rates.START[self.device] + LEAST_SECONDS[self.device]
            needed = min(needed, useful + self.forecast.rate(self.forecast.what(task.name)).warm)
        return not self.did_work or time.monotonic() + needed <= self.stop_at
