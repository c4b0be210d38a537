"""What each part of a run is expected to take, and how many steps fit: plans from rates and state.

All times are seconds. `flags` are those of `headline.command_line` as a dict.
"""

import time
from pathlib import Path

from headline import plan, rates
from headline.programs import HALVES, TITLES, WEIGHTS, screening_scores, winner
from headline.recipe import preset_value
from src.utils import UserError, read_json
from training.logbook import read_rows

TRAININGS_OF = {"halves": list(HALVES), **{name: [name] for name in ("teacher", "student", "flow")}}
SCREEN_SAMPLES = 500
PACK_SECONDS = 60.0


class Forecast:
    """Expected times of the run in `flags["work"]`, whose settled steps are in `state`.

    began: `time.monotonic` of this command. Making one reads and writes nothing; each question
    looks at what is measured and done now.
    """

    def __init__(self, flags, state, began):
        self.flags, self.state, self.work = flags, state, Path(flags["work"])
        self.device = "cuda" if flags["device"].startswith("cuda") else "cpu"
        self.began = began

    def asked(self):
        """Names of the trainings that the parts ask for, in their order."""
        return [name for part in self.flags["parts"] for name in TRAININGS_OF.get(part, [])]

    def spent(self):
        """Seconds of all commands up to now."""
        return self.state.spent_before + time.monotonic() - self.began

    def rate(self, what, seconds=300.0):
        """The `Rate` of a process of so many seconds; see `rates.rate_of`."""
        path = self.work / "speed.json"
        teacher, student = rates.GUESSES[self.flags["preset"], self.device]
        fallback = teacher if what == "teacher" else student
        return rates.rate_of(read_json(path) if path.exists() else {}, what, seconds, fallback)

    def what(self, name):
        """Which rate the training `name` has."""
        return "teacher" if name in ("teacher", "flow") else self.disc()

    def disc(self):
        """The discriminator of the long student, as far as it is known."""
        return self.student_flags().get("disc") or preset_value(self.flags["preset"], "disc")

    def student_flags(self):
        """Flags of the long student beside the recipe: as settled, else those of the screening's
        best cell once it is over, then those that were given."""
        if self.state.student is not None:
            return self.state.student
        state, asked = self.state, "screening" in self.flags["parts"]
        is_open = asked and not (state.is_done("screening") or state.has_failed("screening"))
        return ({} if is_open else winner(self.work)) | self.flags["student"]

    def start(self, what, seconds=300.0):
        """From a process's start until it trains at its rate."""
        return rates.START[self.device] + self.rate(what, seconds).warm

    def costs(self):
        return plan.image_costs(self.rate("teacher").images, self.rate(self.disc()).images)

    def steps_taken(self, name):
        rows = read_rows(self.work / name / "log.jsonl")
        return max((row["step"] for row in rows), default=0)

    def steps(self):
        """{training: steps} of the trainings asked for, as settled or as they would fit now."""
        settled, costs, batch = self.state.steps, self.costs(), self.flags["batch_size"]
        wanted = [name for name in self.asked() if not self.state.is_done(name)]
        fixed = {name: settled[name] for name in ("teacher", "student") if name in settled}
        left = 60 * self.flags["minutes"] - self.spent()
        left -= sum(self.part(p) for p in self.flags["parts"] if p not in TRAININGS_OF)
        restarts = len(wanted) + max(0.0, left) / (60 * self.flags["command_minutes"])
        taken = {name: self.steps_taken(name) for name in wanted}
        seconds = plan.SAFETY * (left - restarts * self.start("teacher"))
        seconds += sum(plan.training_seconds(taken, costs, batch).values())
        share = self.flags["teacher_share"]
        most = self.flags["max_steps"]
        found = plan.steps_that_fit(seconds, costs, batch, wanted, fixed, share, most)
        return found | {name: settled[name] for name in wanted if name in settled}

    def training(self, name, steps):
        """A training's start and the steps that are left of it. Raises `UserError` where there is
        no time for it, or nothing that it depends on."""
        if not steps and name in ("teacher", "student"):
            raise UserError(
                f"too little is left of --minutes {self.flags['minutes']:g} for the {name}; give"
                " more, fewer --parts, or a lower --screen_minutes"
            )
        if not steps:
            raise UserError(f"{name}: its steps follow from those of teacher and student; run them")
        batch, left = self.flags["batch_size"], max(0, steps - self.steps_taken(name))
        seconds = plan.training_seconds({name: left}, self.costs(), batch)[name]
        return self.start(self.what(name), seconds) + seconds

    def part(self, part):
        """A part other than a training; 0 where it is done."""
        ask = {"speed": self._speed, "screening": self._screening, "score": self._score}
        if part != "score" and self.state.is_done(part):
            return 0.0
        return ask[part]() if part in ask else PACK_SECONDS

    def discs_to_time(self):
        if "screening" in self.flags["parts"]:
            return self.flags["screen_discs"]
        return [self.disc()]

    def evaluation(self):
        """A network evaluation of an image in scoring."""
        return rates.SCORING_FACTOR[self.device] / 3 / self.rate("teacher").images

    def screening_steps(self):
        """{disc: steps} that fit in a cell's minutes, and train.py's flag to compile."""
        seconds, steps, compiled = 60 * self.flags["screen_minutes"], {}, set()
        for disc in self.flags["screen_discs"]:
            rate = self.rate(disc, seconds)
            fitting = int(seconds * rate.images / self.flags["batch_size"])
            steps[disc] = min(max(plan.LEAST_STEPS, fitting), self.flags["max_steps"])
            compiled.add(rate.compile)
        return steps, "auto" if "auto" in compiled else "off"

    def screening_samples(self):
        return min(SCREEN_SAMPLES, self.flags["num_samples"])

    def _speed(self):
        is_compiled = self.device == "cuda" and self.flags["base"].get("compile") != "off"
        modes = [mode for _, mode in rates.ways(self.discs_to_time(), is_compiled)]
        if self.device == "cpu":
            return rates.START["cpu"] + len(modes) * rates.CPU_SPEED_SECONDS
        return rates.START["cuda"] + sum(rates.SPEED_SECONDS[mode] for mode in modes)

    def _screening(self):
        discs, most = self.flags["screen_discs"], 60 * self.flags["screen_minutes"]
        steps = max(self.screening_steps()[0].values())
        each = min(most, steps * self.flags["batch_size"] / self.rate(discs[0], most).images)
        cells = len(self.flags["screen_sigmas"]) * len(discs) - len(screening_scores(self.work))
        evaluations = preset_value(self.flags["preset"], "teacher_steps") + 1 + 7 * cells
        sampling = self.screening_samples() * evaluations * self.evaluation()
        begun = rates.START[self.device] + cells * self.start(discs[0], each)
        return begun + cells * each + sampling

    def _score(self):
        samples, tunes = self.flags["num_samples"], self.flags["tune_samples"]
        models = [n for n in TITLES if n in self.asked() or (self.work / WEIGHTS[n]).is_file()]
        tunes = tunes if "student" in models else 0
        nfes = [0] + [nfe for name in models for nfe in (1, 2, 4) if name != "teacher"]
        nfes += self.flags["teacher_nfe_list"] * ("teacher" in models) + [1, 2, 4] * bool(tunes)
        each, evaluation = rates.SET_SECONDS[self.device] * samples / 1000, self.evaluation()
        found = plan.score_seconds(nfes, len(self.flags["seeds"]), samples, evaluation, each)
        distance = rates.DISTANCE_SECONDS[self.device] * tunes / 500
        tuning = plan.tuning_seconds(tunes, evaluation, distance) if tunes else 0.0
        return rates.START[self.device] + found + tuning
