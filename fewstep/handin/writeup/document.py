"""The hand-in's write-up: two A4 pages and one of references, from the records of a run alone."""

import re
from functools import partial
from pathlib import Path

import matplotlib
import torch
from matplotlib.backends.backend_pdf import PdfPages

from custom_model import create_custom_model
from fewstep.handin.writeup.citations import Citations
from fewstep.handin.writeup.curves import draw_panels
from fewstep.handin.writeup.geometry import A4, MARGIN, WIDTH
from fewstep.handin.writeup.method_text import technical_paragraph
from fewstep.handin.writeup.pages import GREY, STYLE, fitted
from fewstep.handin.writeup.records import read_records
from fewstep.handin.writeup.scores_table import score_table
from fewstep.handin.writeup.tables import draw_table
from fewstep.handin.writeup.wording import duration, plural
from src.utils import whole_file

PAGES = 3  # two, and one of references
LABELS = 54  # points before a row of pictures
DATA = {"simpsons": " (Simpsons Faces)", "synthetic": " (drawn faces)", "folder": ""}
FULL_ROW = 8  # a sheet with fewer pictures in a row is drawn narrower


def make_writeup(run_dir, output, author="", teacher_dir=None):
    """Write the PDF of the finished run in `run_dir` to `output`; returns its path.

    author: a line below the title, may be empty. teacher_dir: the run that trained the teacher,
    where it was another; None: as the run's own record says.
    Raises `UserError` that names all records that are missing, or what does not fit.
    """
    records = read_records(run_dir, teacher_dir)
    cite = Citations()
    # In the order in which they are read, because sources are numbered by their first use.
    method = technical_paragraph(
        records.teacher_settings, records.settings, records.config, _parameters(records), cite
    )
    training = _training_text(records)
    table = score_table(records.scores, cite)
    title = _title(records.settings)

    first = partial(
        _first_page, records=records, title=title, author=author, method=method, training=training
    )
    # As many rows of final pictures as there is room for.
    second = [
        partial(_second_page, records=records, table=table, most_rows=rows) for rows in (3, 2, 1)
    ]
    pages = [
        fitted([first], "page 1 of the write-up"),
        fitted(second, "page 2 of the write-up"),
        fitted([partial(_reference_page, cite=cite)], "the list of references"),
    ]
    _write(pages, Path(output), title, author)
    return Path(output)


def _parameters(records):
    with torch.device("meta"):  # counts without the memory
        model = create_custom_model("meta", **records.config)
    return sum(parameter.numel() for parameter in model.network.parameters())


def _title(settings):
    if settings.distillation.distill == "none":
        return "Adversarial training of a few-step generator from scratch"
    if settings.discriminator.disc == "none":
        return "Score distillation of a diffusion model from scratch"
    return "Adversarial diffusion distillation from scratch"


def _training_text(records):
    facts, teacher = records.facts, records.teacher_facts
    teacher_seconds, student_seconds = teacher["teacher_seconds"], facts["student_seconds"]
    text = (
        f"Total training time: {duration(teacher_seconds + student_seconds)} (teacher"
        f" {duration(teacher_seconds)}, student {duration(student_seconds)}). Hardware:"
        f" {facts['device']}; torch {facts['torch']}"
    )
    if (teacher["device"], teacher["torch"]) != (facts["device"], facts["torch"]):
        text += f" (teacher: {teacher['device']}; torch {teacher['torch']})"
    images = plural(records.scores["training_count"], "training image")
    kind = DATA[records.settings.data.data]
    return f"{text}. Data: {images} of 64×64 pixels{kind}; seed {records.settings.run.seed}."


def _first_page(page, records, title, author, method, training):
    page.paragraph(title, page.size + 5, "bold")
    if author:
        page.skip(2)
        page.paragraph(author, page.size + 0.5, colour=GREY)
    page.heading("Technical details")
    page.paragraph(method)
    page.heading("Training details")
    page.paragraph(training)
    page.skip(0.9 * page.size)
    caption = "Loss curves over the steps of each phase, from the log of the run."
    draw_panels(page, records.rows, 8 + page.height_of(caption, page.small))
    page.skip(8)
    page.paragraph(caption, page.small, colour=GREY)


def _second_page(page, records, table, most_rows):
    page.heading("Early samples")
    texts = []
    for phase, settings in (("teacher", records.teacher_settings), ("student", records.settings)):
        sheet = records.early[phase]
        _pictures(page, sheet, 1, f"{phase.capitalize()}\nstep {sheet.step:,}")
        page.skip(5)
        steps = settings.teacher.num_iterations
        steps = steps if phase == "teacher" else settings.student.student_iterations
        texts.append(f"the {phase}'s average after {sheet.step:,} of {steps:,} steps")
    nfe = plural(records.teacher_settings.teacher.teacher_steps, "evaluation")
    text = f"Early in training: {texts[0]}, {nfe}; {texts[1]}, 1 evaluation."
    page.paragraph(text, page.small, colour=GREY)
    page.heading("Final samples")
    for nfe, sheet in records.finals.items():
        rows = min(most_rows, sheet.height)
        _pictures(page, sheet, rows, f"Student\nNFE {nfe}")
        page.skip(7)
    page.paragraph(_final_caption(records, most_rows), page.small, colour=GREY)
    head, rows, caption = table
    page.heading("Scores")
    draw_table(page, head, rows)
    page.skip(6)
    page.paragraph(caption, page.small, colour=GREY)


def _pictures(page, sheet, rows, label):
    image = sheet.rows(0, rows)
    width = (WIDTH - LABELS) * min(1, sheet.columns / FULL_ROW)
    page.pictures(image, width * image.height / image.width, label, MARGIN + LABELS)


def _final_caption(records, most_rows):
    text = "The trained student at 1, 2 and 4 evaluations (NFE)"
    sheet = records.finals[1]
    if not records.finals_are_scored:
        return f"{text}: the last sheet of its training, after {sheet.step:,} steps."
    count = sheet.columns * min(most_rows, sheet.height)
    return f"{text}: the first {count} of the evaluation's first seed, not chosen."


def _reference_page(page, cite):
    page.paragraph("References", page.size + 2.5, "bold")
    page.skip(0.6 * page.size)
    for mark, text in cite.entries():
        page.paragraph(text, indent=3 * page.size, mark=mark)
        page.skip(0.35 * page.size)


def _write(pages, output, title, author):
    # Without the date the same records give the same file.
    metadata = {"Title": title, "Author": author, "CreationDate": None}
    with (
        whole_file(output) as temporary,
        matplotlib.rc_context(STYLE),
        PdfPages(temporary, metadata=metadata) as pdf,
    ):
        for page in pages:
            pdf.savefig(page.figure)
        pdf.close()
        sizes = page_sizes(temporary.read_bytes())
        if sizes != [tuple(round(side) for side in A4)] * PAGES:
            raise RuntimeError(f"{output}: pages of {sizes} were written, not {PAGES} of A4")


def page_sizes(pdf):
    """(width, height) of each page of a PDF that matplotlib wrote, given its bytes, in whole
    points."""
    boxes = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    return [(round(float(width)), round(float(height))) for width, height in boxes]
