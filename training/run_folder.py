"""Which folder a run writes to, and its `training_config.json`."""

from pathlib import Path

from src.utils import UserError, get_current_time, read_json, write_json
from training.settings import PHASE_GROUPS

CONFIG_NAME = "training_config.json"


def choose_run_folder(settings, results="results"):
    """The run's folder (not made yet).

    `--save_dir` where given. Else the newest run below `results` that the same settings began and
    did not finish, or, to distil without a teacher named, the newest with such a teacher; else a
    new one named by the time.
    """
    if settings.run.save_dir:
        return Path(settings.run.save_dir)
    results = Path(results)
    for config in sorted(results.glob(f"*/{CONFIG_NAME}"), reverse=True):
        try:
            content = read_json(config)
        except UserError:
            continue
        if _goes_on(settings, content, config.parent):
            print(f"going on with the run in {config.parent}")
            return config.parent
    if settings.run.phase == "add" and not settings.student.teacher_ckpt:
        raise UserError(
            f"--phase add: no run below {results}/ has a teacher for these settings; name one with"
            " --teacher_ckpt FILE, or run --phase all"
        )
    return results / get_current_time()


def _goes_on(settings, content, folder):
    phase, now = settings.run.phase, settings.as_dict()
    before = content.get("settings", {})
    if before.get("run", {}).get("seed") != settings.run.seed:
        return False
    stages = {"teacher": ["teacher"], "add": ["student"], "all": ["teacher", "student"]}[phase]
    groups = {group for stage in stages for group in PHASE_GROUPS[stage]}
    same = all(_same(now[group], before.get(group, {})) for group in groups)
    if same and phase == before.get("run", {}).get("phase") and not content.get("finished"):
        return True
    if phase != "add" or settings.student.teacher_ckpt:
        return False
    fits = all(_same(now[group], before.get(group, {})) for group in ("data", "network"))
    return fits and (folder / "teacher" / "model.pt").exists()


def _same(now, before):
    keys = set(now) | set(before)
    # Where the images lie does identify a run here: it is all that is known before reading them.
    return all(now.get(key) == before.get(key) for key in keys - {"cache_dir"})


def write_config(folder, settings, **facts):
    """Write (or update) the run's `training_config.json`; facts of earlier phases are kept."""
    path = folder / CONFIG_NAME
    before = read_json(path) if path.exists() else {}
    write_json(path, before | {"settings": settings.as_dict()} | facts)
