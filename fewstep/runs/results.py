"""The models that a phase leaves: the newest, the best so far, and the exported generator."""

import zipfile
from pathlib import Path

from custom_model import create_custom_model
from fewstep.runs.run_folder import own_teacher
from fewstep.runs.settings import method_of
from fewstep.runs.weights import save_generator
from src.utils import load_model, read_json, sweep_dead, write_json

BEST, FINAL = "best_model.pt", "final_model.pt"
MEASURES = {"heldout_loss": "held-out loss", None: "distance to training images"}


class Results:
    """Saved models of a `Phase` of a run's `Settings` in its folder.

    `saved`: the teacher's model.pt, or the generator's final_model.pt, which is the newest one or,
    with --export best, the best so far. `best`: the best so far.
    """

    def __init__(self, settings, folder, phase):
        self.phase, self.run = phase, settings.run
        self.is_generator = phase.name == method_of(settings).phase.name
        self.saved = folder / FINAL if self.is_generator else own_teacher(folder)
        self.best = folder / phase.name / BEST
        self.takes_best = self.is_generator and self.run.export == "best"

    def publish(self):
        """Called after each checkpoint."""
        beside = self.best.with_name("model_config.json")
        if not beside.exists():  # with it the average of any checkpoint can be named as weights
            write_json(beside, self.phase.config)
        if self.takes_best and self.best.exists():
            config = read_json(beside)
            self._save(load_model(self.best, create_custom_model), self.saved, config)
        else:
            self._save(self.phase.ema, self.saved, self.phase.config)

    def publish_best(self):
        """Called after a checkpoint that is the best so far."""
        self._save(self.phase.ema, self.best, self.phase.config)
        if self.takes_best:
            self._save(self.phase.ema, self.saved, self.phase.config)

    def export(self, best):
        """Put the generator where it is sampled from by default. best: {"step": ..., "value": ...}
        of the best one, or None. Returns the facts, and prints them."""
        path = exported_path(self.run)
        sweep_dead(path.parent)
        if path.exists() and not is_same_model(path, self.saved):
            print(f"{path}: the model there is replaced; each run keeps its final_model.pt")
        config = read_json(self.saved.with_name("model_config.json"))
        self._save(load_model(self.saved, create_custom_model), path, config)
        name, last = self.phase.name, self.phase.total
        measure = MEASURES.get(self.phase.best_by, self.phase.best_by)
        facts = {"kind": "last", "step": last}
        if best and self.takes_best:
            facts = {"kind": "best", "step": best["step"], "by": measure}
        line = f"{path}: the {facts['kind']} {name}, of step {facts['step']}"
        if best and best["step"] != last:
            by = f"by {measure} ({best['value']:.4g})"
            other = f"the best one {by} is that of step {best['step']}, {self.best} (--export best)"
            line += f" {by}" if self.takes_best else f"; {other}"
        print(line)
        return {"exported": facts}

    def _save(self, model, path, config):
        save_generator(model, path, config, self.phase.learns_levels)


def exported_path(run):
    """Where a run's settings put the finished generator."""
    return Path(run.export_dir) / BEST


def is_same_model(path, other):
    """Whether both files are there and hold the same, whatever their names, which torch writes into
    them."""
    if not path.exists() or not other.exists():
        return False
    sums = checksums(path)
    return sums is not None and sums == checksums(other)


def checksums(path):
    """{member: CRC} of a file of torch.save; None where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {one.filename.partition("/")[2]: one.CRC for one in archive.infolist()}
    except zipfile.BadZipFile:
        return None


def warn_of_export(run, folder):
    """Say before the training what its end will replace, but for what this very run put there."""
    path = exported_path(run)
    if path.exists() and not is_same_model(path, folder / FINAL):
        print(f"{path} will be replaced at the end of this run; another --export_dir keeps it")
