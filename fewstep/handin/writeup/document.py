"""The hand-in's write-up: two A4 pages and one of references, from the records of a run alone."""

import shutil
import tempfile
from pathlib import Path

import torch

from custom_model import create_custom_model
from fewstep.handin.recipe import recipe
from fewstep.handin.writeup.curves import draw_curves
from fewstep.handin.writeup.method_text import describe
from fewstep.handin.writeup.records import read_records
from fewstep.handin.writeup.scores_table import score_table
from fewstep.handin.writeup.wording import listed
from fewstep.runs.run_folder import machine_of
from src.errors import package_for
from src.formatting import duration
from src.sheets import first_rows
from src.utils import UserError, move_into_place, write_json

HERE = Path(__file__).resolve().parent
DATA = {"simpsons": " (Simpsons Faces)", "synthetic": " (drawn faces)"}
FINAL_ROWS = 2  # of pictures at each NFE


def make_writeup(run_dir, output, author="", teacher_dir=None):
    """Write the PDF of the finished run in `run_dir` to `output`; returns its path.

    author: a line below the title, may be empty. teacher_dir: the run that trained the teacher,
    where it was another; None: as the run's own record says.
    Raises `UserError` that names all records that are missing, or what does not fit.
    """
    typst = package_for("the write-up", "typst")
    records, output = read_records(run_dir, teacher_dir), Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writeup.", dir=output.parent) as work:
        work = Path(work)
        for name in ("writeup.typ", "citations.yaml"):
            shutil.copyfile(HERE / name, work / name)
        write_json(work / "run.json", {"author": author, **contents(records, work)})
        draw_curves([row for phase in records.phases for row in phase.rows], work / "curves.svg")
        try:
            # PDF/A refuses letters that no font has; with Typst's own fonts alone, the same
            # records give the same file anywhere.
            typst.compile(
                work / "writeup.typ",
                output=work / "writeup.pdf",
                ignore_system_fonts=True,
                pdf_standards="a-2b",
            )
        except typst.TypstError as error:
            raise UserError(f"{output}: the write-up cannot be set: {error.message}") from error
        move_into_place(work / "writeup.pdf", output)
    return output


def contents(records, folder):
    """What `writeup.typ` reads: texts, tables, and the names of pictures, written to `folder`."""
    last = records.phases[-1]
    starts = [flag for one in records.phases for flag in one.facts.get(f"{one.name}_start", [])]
    parameters = _parameters(records.config)
    title, sentences = describe(
        last.settings, records.phases[0].settings, records.config, parameters, starts
    )
    exported = last.facts.get("exported", {})
    if exported.get("kind") == "best":
        step, by = exported["step"], exported["by"]
        sentences.append(f"What is handed in is its step {step:,}, the best by {by}.")
    sentences.append(f"Command: {recipe(last.facts)}.")
    head, rows, caption = score_table(records.scores)
    early, final = [], []
    for phase in _with_early(records):
        first_rows(phase.sheet).save(folder / f"early_{phase.name}.png")
        label = [phase.name.capitalize(), f"step {phase.sheet_step:,}"]
        early.append({"label": label, "file": f"early_{phase.name}.png"})
    for nfe, path in records.finals.items():
        first_rows(path, FINAL_ROWS).save(folder / f"final_{nfe}.png")
        final.append({"label": ["Final", f"NFE {nfe}"], "file": f"final_{nfe}.png"})
    return {
        "title": title,
        "date": records.scores["date"],
        "technical": " ".join(sentences),
        "training": training_text(records),
        "early": early,
        "early_caption": _early_caption(records),
        "final": final,
        "table": {"head": head, "rows": rows, "caption": caption},
    }


def training_text(records):
    """Total training time, hardware and data."""
    phases, last = records.phases, records.phases[-1]
    seconds = {phase.name: phase.facts[f"{phase.name}_seconds"] for phase in phases}
    parts = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items())
    parts = f" ({parts})" if len(phases) > 1 else ""
    machines = {one.name: "{}; torch {}".format(*machine_of(one.facts, one.name)) for one in phases}
    others = [f"{name}: {m}" for name, m in machines.items() if m != machines[last.name]]
    others = f" ({', '.join(others)})" if others else ""
    images = f"{records.scores['training_count']:,} training images"
    return (
        f"Total training time: {duration(sum(seconds.values()))}{parts}."
        f" Hardware: {machines[last.name]}{others}. Data: {images} of 64×64"
        f" pixels{DATA.get(last.settings.data.data, '')}; seed {last.settings.run.seed}."
    )


def _with_early(records):
    return [phase for phase in records.phases if phase.sheet]


def _early_caption(records):
    texts = [
        f"the {phase.name}'s average after {phase.sheet_step:,} of {phase.rows[-1]['step']:,} steps"
        for phase in _with_early(records)
    ]
    return f"Early in training: {listed(texts)}." if texts else ""


def _parameters(config):
    with torch.device("meta"):  # counts without the memory
        model = create_custom_model("meta", **config)
    return sum(parameter.numel() for parameter in model.network.parameters())
