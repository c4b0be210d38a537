"""What an evaluation leaves behind: scores, pictures, and the report that shows them."""

import re
from pathlib import Path

import numpy as np

from fewstep.engine.log import draw_curves, read_rows
from fewstep.runs.settings import PANELS
from fewstep.studies.evaluate.figures import draw_distance_over_nfe
from fewstep.studies.evaluate.pictures import labelled_sheet, strip_of
from fewstep.studies.evaluate.report import write_report
from fewstep.studies.evaluate.tables import distance_title, markdown
from src.utils import picture_sheet, save_picture, whole_file, write_json

SHEET_IMAGES, SHEET_COLUMNS = 40, 10
OWN_PICTURES = re.compile(
    r"(real|sheet|training_curves|(nearest|student|teacher|untuned_student)_nfe=\d+)\.png"
    r"|distance_over_nfe\.svg"
)
PATHS = ("save_dir", "export_dir", "data_root", "train_split", "val_split", "cache_dir")
PATHS += ("teacher_ckpt",)
COMPARED = 8  # generated images that are shown with their nearest training images


def publish(content, first_images, comparison, subjects, output, hide_real=False):
    """Write scores.json, scores.md, the pictures and report.html into the folder `output`.

    content: what scores.json holds. first_images: {row title: uint8 images of the first seed}.
    hide_real: no real image goes into the report or any picture.
    """
    for path in output.glob("*"):
        if OWN_PICTURES.fullmatch(path.name):
            path.unlink()  # of an earlier evaluation, perhaps of other rows or with real images
    write_json(output / "scores.json", content)
    with whole_file(output / "scores.md") as temporary:
        temporary.write_text(markdown(content), encoding="utf-8")
    space = content["spaces"][0]
    figure = output / "distance_over_nfe.svg"
    draw_distance_over_nfe(content["rows"], space, content["num_samples"], figure)
    generated = {row["images"]: row for row in content["rows"] if row["model"] != "real"}
    strips = [(title, strip_of(first_images[title])) for title in generated]
    save_picture(labelled_sheet(strips), output / "sheet.png")
    sheets = []
    for title, row in generated.items():
        name = f"{row['model']}_nfe={row['nfe']}.png".replace(" ", "_")
        sheet = picture_sheet(first_images[title][:SHEET_IMAGES], SHEET_COLUMNS)
        save_picture(sheet, output / name)
        sheets.append((title, output / name))
    sections = [
        ("Distance over NFE", "", [(distance_title(space), figure)]),
        ("The same noise at each NFE", "Each column starts from one noise image.", strips),
        ("Samples", "Not chosen: the first ones of the first seed.", sheets),
    ]
    if not hide_real:
        sections += _with_real_images(generated, first_images, comparison, output)
    if subjects.record:
        curves = output / "training_curves.png"
        draw_curves(read_rows(subjects.checkpoint.with_name("log.jsonl")), curves, PANELS)
        if curves.exists():
            sections.append(("Training", "", [("curves of both phases", curves)]))
    write_report(content, sections, _configuration(subjects), output / "report.html")


def _configuration(subjects):
    """{group: {key: value}} of the run, paths without their folders; {} of a bare checkpoint."""
    if not subjects.record:
        return {}
    facts = {key: subjects.record.get(key) for key in ("preset", "torch", "device")}
    groups = {"trained with": facts} | subjects.settings.as_dict()
    for values in groups.values():
        values |= {key: Path(values[key]).name for key in PATHS if values.get(key)}
    return groups


def _with_real_images(generated, first_images, comparison, output):
    """Report sections that show real images: some as they are, and the nearest training images."""
    (real,) = [title for title in first_images if title not in generated]
    save_picture(
        picture_sheet(first_images[real][:SHEET_IMAGES], SHEET_COLUMNS), output / "real.png"
    )
    pictures = []
    for title, row in generated.items():
        if row["model"] != "student":
            continue
        images = first_images[title][:COMPARED]
        nearest = comparison.nearest_training(images)
        grid = np.concatenate([images, *(training for _, training in nearest)])
        path = output / f"nearest_nfe={row['nfe']}.png"
        save_picture(picture_sheet(grid, len(images)), path)
        pictures.append((title, path))
    names = " and ".join(name for name, _ in nearest)
    text = f"Generated images, below each its nearest training images by {names}."
    return [
        ("Real training images", "", [("what the training learns from", output / "real.png")]),
        ("Nearest training images", text, pictures),
    ]
