"""Train and score one cell in a folder of its own, so that nothing finished is done again."""

import subprocess
import sys
import time
from pathlib import Path

from ablation.plan import as_arguments
from custom_model import create_custom_model
from evaluate import sample_images
from src.utils import UserError, load_model, read_json, write_json
from training.command_line import parse_settings
from training.estimate import phase_seconds, student_seconds
from training.logbook import read_rows

ROOT = Path(__file__).resolve().parents[1]
BATCH = 50  # of sampling
LEAST_STEPS = 10


def cell_arguments(plan, cell, teacher):
    """train.py's arguments of a cell; steps and folders come on top."""
    flags = plan["base"] | cell.flags | {"phase": "add", "seed": cell.seed}
    return as_arguments(flags | {"teacher_ckpt": str(teacher)})


def estimate(plan, cell, teacher, device):
    """(steps, seconds) of a cell's training, from a few steps timed here. With `minutes` in the
    plan the steps are what fits. Raises `UserError` for flags that cannot be."""
    settings = parse_settings(cell_arguments(plan, cell, teacher))[0]
    warm, usual = student_seconds(settings, device)
    steps, seconds = settings.student.student_iterations, phase_seconds(settings, warm, usual)
    if plan["minutes"]:
        more = max(LEAST_STEPS - steps, int((60 * plan["minutes"] - seconds) / usual))
        steps, seconds = steps + more, seconds + more * usual
    return steps, seconds


def run_teacher(plan, folder):
    """Train the shared teacher, unless it is finished; returns its file. Raises `UserError`."""
    flags = plan["base"] | {"phase": "teacher", "save_dir": str(folder)}
    settings = parse_settings(as_arguments(flags))[0]  # mistakes are named before anything starts
    _train(as_arguments(flags), folder / "output.txt", settings.teacher.num_iterations)
    return folder / "teacher" / "model.pt"


def run_cell(plan, cell, teacher, folder, device, scorer):
    """Train and score a cell; returns its score, from the folder where that is there already.

    The score: training steps and minutes, sentinels of the last row, and a distance for each NFE.
    Raises `UserError` when training fails; what it had said is in FOLDER/output.txt.
    """
    identity = {"arguments": cell_arguments(plan, cell, teacher), "minutes": plan["minutes"]}
    identity |= {key: plan[key] for key in ("nfe_list", "num_samples")}
    done = folder / "score.json"
    if done.exists() and (score := read_json(done)).get("identity") == identity:
        return score
    steps = _settled_steps(plan, cell, teacher, folder, device, identity)
    places = {"save_dir": str(folder / "run"), "export_dir": str(folder / "run" / "export")}
    flags = as_arguments(places | {"student_iterations": steps})
    _train(identity["arguments"] + flags, folder / "output.txt", steps)
    rows = [row for row in read_rows(folder / "run" / "log.jsonl") if "concern" not in row]
    record = read_json(folder / "run" / "training_config.json")
    model = load_model(folder / "run" / "final_model.pt", create_custom_model, device)
    score = {"identity": identity, "steps": steps, "minutes": record["student_seconds"] / 60}
    score |= {key: rows[-1].get(key) for key in ("spread", "detail")}
    score["distance"] = sampled_distances(model, plan, scorer, plan["nfe_list"], cell.title)
    write_json(done, score)
    return score


def sampled_distances(model, plan, scorer, nfes, title):
    """{NFE as text: distance} of fresh samples, of the same noise for every model."""
    return {
        str(nfe): scorer.distance(
            sample_images(model, nfe, plan["num_samples"], BATCH, 0, f"{title}, NFE {nfe}")
        )
        for nfe in nfes
    }


def _settled_steps(plan, cell, teacher, folder, device, identity):
    """The steps of a cell, measured once: a resumed cell must not find another number."""
    if not plan["minutes"]:
        return parse_settings(identity["arguments"])[0].student.student_iterations
    path = folder / "plan.json"
    if path.exists() and (known := read_json(path)).get("identity") == identity:
        return known["steps"]
    steps, seconds = estimate(plan, cell, teacher, device)
    write_json(path, {"identity": identity, "steps": steps, "estimated_seconds": round(seconds)})
    return steps


def _train(arguments, output, steps):
    """train.py in a process of its own: a cell that dies takes nothing else with it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with open(output, "a") as file:
        command = [sys.executable, str(ROOT / "train.py"), *arguments]
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code in (130, 143):
        raise KeyboardInterrupt
    if code:
        lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
        raise UserError(f"exit code {code}: {lines[-1] if lines else 'no output'} (see {output})")
    print(f"  {steps} steps, {(time.perf_counter() - began) / 60:.1f} min", flush=True)
