"""Which folder a command means: the run that it began, the teacher that it needs, or a new one."""

import os
from pathlib import Path

from fewstep.engine.checkpoints import has_checkpoints
from fewstep.methods import METHODS
from fewstep.runs.run_folder import CONFIG_NAME, own_teacher, places_of, teacher_of
from fewstep.runs.settings import (
    PHASES,
    STARTS,
    STEPS_FLAGS,
    flat,
    method_of,
    phases_of,
    recorded,
)
from src.formatting import short_name
from src.published import named_file
from src.utils import UserError, get_current_time, read_json

# Two runs learn the same images when they agree on these; a teacher serves either.
IMAGE_FIELDS = ("data", "data_root", "train_split", "val_split", "synthetic_count", "data_seed")

# Where images lie identifies a run here, since it is all that is known before reading them; this
# does not.
LEFT_OUT = {"cache_dir", "skip_bad_images"}
SAME_RUN = ("method", "phase", "seed", "teacher_ckpt", *STARTS)
PATHS = ("data_root", "train_split", "val_split", "teacher_ckpt", *STARTS)
KIND = {"method", "phase", *IMAGE_FIELDS}  # a run that differs in these was not meant
MOST_NAMED, MOST_DIFFERENCES = 3, 3  # runs that may have been meant, and how far they may be off


def choose_run_folder(settings, results="results"):
    """(run folder, teacher file) of these settings; nothing is made or written.

    `--save_dir` where given. Else the newest run below `results` that the same settings began and
    did not finish. Else a new folder named by the time; but to distil without a teacher named, the
    newest finished teacher below `results` is taken, in its own folder if that has no student yet.
    Runs that are nearly those that were asked for are named.
    """
    named, phase = named_file(settings.run.teacher_ckpt), settings.run.phase
    if phase == "teacher":
        named = ""  # what a teacher starts from is not the teacher of its run
    if settings.run.save_dir:
        folder = Path(settings.run.save_dir)
        if phase == "add" and not named and (folder / CONFIG_NAME).exists():
            return folder, teacher_of(folder, read_json(folder / CONFIG_NAME))
        return folder, Path(named) if named else own_teacher(folder)
    new = Path(results) / get_current_time()
    runs = list(_newest_first(Path(results)))
    for folder, content in runs:
        if not content.get("finished") and not _differences(settings, content):
            print(f"going on with the run in {folder}")
            is_own = phase != "add" and not named
            return folder, own_teacher(folder) if is_own else teacher_of(folder, content)
    for line in _nearly(settings, runs):
        print(line)
    if named:
        return new, Path(named)
    if phase != "add":
        return new, own_teacher(new)
    near = []
    for folder, content in runs:
        differences = _teacher_differences(settings, content)
        if not differences:
            print(f"distilling the teacher of {folder}")
            if _is_generator(settings, content):
                return new, folder / "final_model.pt"
            others = set(PHASES) - {method_of(settings).teacher.name}
            taken = any(has_checkpoints(folder / name) for name in others)
            return new if taken else folder, own_teacher(folder)
        near.append(f"{folder} ({', '.join(differences)})")
    others = f"; there are {'; '.join(near[:MOST_NAMED])}" if near else ""
    raise UserError(
        f"--phase add: no run below {results}/ has a finished teacher for these images and this"
        f" network{others}; name one with --teacher_ckpt FILE, or run --phase all"
    )


def other_images(settings, teacher, digest):
    """A line where the record of the run that trained the file `teacher` says that it learnt other
    images than those of now, "" where it says the same or there is no record.

    digest: of the training images of now.
    """
    places = [folder / CONFIG_NAME for folder in list(Path(teacher).parents)[:2]]
    try:
        content = next((read_json(place) for place in places if place.is_file()), {})
    except UserError:
        return ""
    recorded = content.get("identities")
    recorded = recorded if isinstance(recorded, dict) else {}
    identity = recorded.get(method_of(settings).teacher.name, {})
    differing = list(_unequal(IMAGE_FIELDS, flat(settings.as_dict()), content)) if content else []
    is_same = identity["images"] == digest if "images" in identity else not differing
    if not content or is_same:
        return ""
    flags = ", ".join(f"--{name}" for name in differing) or "files"
    return (
        f"the teacher {teacher} learnt from other images (other {flags}), so it may have seen"
        " images that are held out now; give the flags of its run"
    )


def _newest_first(results):
    configs = results.glob(f"*/{CONFIG_NAME}")
    for config in sorted(configs, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            yield config.parent, read_json(config)
        except UserError:
            continue


def _nearly(settings, runs):
    """Lines on the runs that a slip, or new defaults, may have missed: unfinished ones of nearly
    these settings or of the same method and images, and finished ones of fewer steps."""
    lengths = {STEPS_FLAGS[phase] for phase in phases_of(settings)}
    for folder, content in runs[:MOST_NAMED]:
        differences = _differences(settings, content)
        text = ", ".join(list(differences.values())[:MOST_DIFFERENCES])
        if not content.get("finished") and len(differences) <= MOST_DIFFERENCES:
            yield f"not going on with {folder}, which is unfinished: it has {text}"
        elif not content.get("finished") and not KIND & set(differences):
            yield (
                f"not going on with {folder}, which is unfinished: {len(differences)} settings"
                f" differ, such as {text}; to go on as it was begun: --config"
                f" {folder / CONFIG_NAME} --save_dir {folder}"
            )
        elif content.get("finished") and differences and set(differences) <= lengths:
            yield f"{folder} is finished and has {text}; to take it further: --save_dir {folder}"


def _differences(settings, content):
    """{setting: `NAME = VALUE, not VALUE`} of what keeps the run of a record from being the one
    that these settings began."""
    groups = {group for phase in phases_of(settings) for group in PHASES[phase].identity}
    now = settings.as_dict()
    keys = [*SAME_RUN, *(key for group in groups for key in now[group] if key not in LEFT_OUT)]
    return _unequal(keys, flat(now), content)


def _teacher_differences(settings, content):
    """What keeps the record's teacher from being that of these settings, as lines."""
    now = settings.as_dict()
    lines = list(_unequal([*IMAGE_FIELDS, *now["network"]], flat(now), content).values())
    teacher = method_of(settings).teacher.name
    return lines if f"{teacher}_seconds" in content else [*lines, f"no finished {teacher}"]


def _is_generator(settings, content):
    """Whether the teacher that a run has trained is what it was for, as that of a reflow may be."""
    method = content["settings"].get("run", {}).get("method")
    return method in METHODS and METHODS[method].phase is method_of(settings).teacher


def _unequal(keys, now, content):
    groups = content.get("settings")
    is_record = isinstance(groups, dict) and all(isinstance(one, dict) for one in groups.values())
    before = recorded(groups) if is_record else {}
    return {
        key: f"{key} = {short_name(str(before.get(key, '')))}, not {short_name(str(now[key]))}"
        for key in keys
        if not _is_same(key, now[key], before.get(key), content)
    }


def _is_same(key, now, before, content):
    if key not in PATHS or not (now and isinstance(before, str) and before):
        # A flag that is younger than the record had no effect then.
        return now == before or (before is None and key in PATHS and not now)
    places = (now, *places_of(content, before))
    now, *real = (os.path.realpath(named_file(place)) for place in places)
    return now in real
