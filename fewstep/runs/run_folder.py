"""Which folder a run writes to, and its `training_config.json`."""

from dataclasses import asdict
from pathlib import Path

from fewstep.engine.checkpoints import check_identity
from fewstep.methods import METHODS
from fewstep.runs.settings import NOT_IDENTITY, PHASES, method_of, phases_of
from src.utils import UserError, get_current_time, read_json, write_json

CONFIG_NAME = "training_config.json"

# Two runs learn the same images when they agree on these; a teacher serves either.
IMAGE_FIELDS = ("data", "data_root", "train_split", "val_split", "synthetic_count", "data_seed")

# Where images lie identifies a run here, since it is all that is known before reading them; this
# does not.
LEFT_OUT = {"cache_dir", "skip_bad_images"}
SAME_RUN = ("method", "phase", "seed", "teacher_ckpt")


def choose_run_folder(settings, results="results"):
    """(run folder, teacher file) of these settings; nothing is made or written.

    `--save_dir` where given. Else the newest run below `results` that the same settings began and
    did not finish. Else a new folder named by the time; but to distil without a teacher named, the
    newest finished teacher below `results` is taken, in its own folder if that has no student yet.
    """
    named, phase = settings.run.teacher_ckpt, settings.run.phase
    if settings.run.save_dir:
        folder = Path(settings.run.save_dir)
        return folder, Path(named) if named else own_teacher(folder)
    new = Path(results) / get_current_time()
    runs = list(_newest_first(Path(results)))
    for folder, content in runs:
        if _began_and_did_not_finish(settings, content):
            print(f"going on with the run in {folder}")
            return folder, teacher_of(folder, content)
    if named:
        return new, Path(named)
    if phase != "add":
        return new, own_teacher(new)
    for folder, content in runs:
        if _teaches(settings, content):
            print(f"distilling the teacher of {folder}")
            if _is_generator(settings, content):
                return new, folder / "final_model.pt"
            taken = set(content.get("identities", {})) - {method_of(settings).teacher.name}
            return new if taken else folder, own_teacher(folder)
    raise UserError(
        f"--phase add: no run below {results}/ has a finished teacher for these images and this"
        " network; name one with --teacher_ckpt FILE, or run --phase all"
    )


def own_teacher(folder):
    """Where a run that trains its own teacher keeps it."""
    return Path(folder) / "teacher" / "model.pt"


def teacher_of(folder, content):
    """The teacher file of the run in `folder` whose `training_config.json` holds `content`."""
    return Path(content.get("teacher_file") or own_teacher(folder))


def phase_identity(settings, phase, digests):
    """What a checkpoint must share with the present settings to be gone on from, flat and plain.

    phase: its name. digests: {what: hash} of what is not in the settings.
    """
    values = {"seed": settings.run.seed, **digests}
    for group in PHASES[phase].identity:
        for key, value in asdict(getattr(settings, group)).items():
            if key not in NOT_IDENTITY:
                values[key] = value
    return values


def begin_run(folder, settings, identities, teacher_path, **facts):
    """Write the run's `training_config.json`, or raise `UserError` and leave it as it was.

    identities: {phase: `phase_identity`} of the phases about to run; each must equal what the
    folder has for that phase already. Settings of a phase that is not run now are kept.
    """
    before = _read_if_there(folder)
    recorded, now = before.get("identities", {}), settings.as_dict()
    for phase, identity in identities.items():
        if phase in recorded:
            check_identity(folder, recorded[phase], identity)
    key, size = "micro_batch_images", facts.get("micro_batch_images")
    if before.get(key) not in (None, size):
        print(
            f"micro-batches of {size} images now, {before[key]} before: from here on other random"
            " numbers are drawn (see --micro_batch)"
        )
    used = {group for phase in identities for group in PHASES[phase].identity}
    used |= {"run", "speed"}
    groups = now | before.get("settings", {}) | {group: now[group] for group in used}
    foreign = Path(teacher_path) != own_teacher(folder)
    teacher = {"teacher_file": str(Path(teacher_path).resolve())} if foreign else {}
    both = {"settings": groups, "identities": recorded | identities}
    write_json(folder / CONFIG_NAME, before | both | teacher | facts | {"finished": False})


def add_facts(folder, **facts):
    """Add facts to the run's `training_config.json`."""
    write_json(folder / CONFIG_NAME, _read_if_there(folder) | facts)


def _newest_first(results):
    configs = results.glob(f"*/{CONFIG_NAME}")
    for config in sorted(configs, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            yield config.parent, read_json(config)
        except UserError:
            continue


def _read_if_there(folder):
    path = Path(folder) / CONFIG_NAME
    return read_json(path) if path.exists() else {}


def _began_and_did_not_finish(settings, content):
    before, now = content.get("settings", {}), settings.as_dict()
    run = before.get("run", {})
    same_run = all(run.get(key) == now["run"][key] for key in SAME_RUN)
    groups = {group for phase in phases_of(settings) for group in PHASES[phase].identity}
    same = all(_same(now[group], before.get(group, {})) for group in groups)
    return same_run and same and not content.get("finished")


def _teaches(settings, content):
    before, now = content.get("settings", {}), settings.as_dict()
    images = all(before.get("data", {}).get(key) == now["data"][key] for key in IMAGE_FIELDS)
    trained = f"{method_of(settings).teacher.name}_seconds" in content
    return images and before.get("network") == now["network"] and trained


def _is_generator(settings, content):
    """Whether the teacher that a run has trained is what it was for, as that of a reflow may be."""
    method = content["settings"].get("run", {}).get("method")
    return method in METHODS and METHODS[method].phase is method_of(settings).teacher


def _same(now, before):
    return all(now.get(key) == before.get(key) for key in (set(now) | set(before)) - LEFT_OUT)
