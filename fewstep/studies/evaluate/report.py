"""What an evaluation leaves behind: scores, pictures, and `report.html`, which shows them in one
file that needs no network and no other file."""

import base64
import io
import re
from pathlib import Path

import numpy as np

from fewstep.engine.curves import draw_curves
from fewstep.engine.log import read_rows
from fewstep.runs.run_folder import machine_of
from fewstep.runs.settings import HEALTHY, PANELS, STARTS, method_of
from fewstep.studies.evaluate.headline import headline
from fewstep.studies.evaluate.pictures import (
    draw_distance_over_nfe,
    labelled_sheet,
    sheet_of,
    strip_of,
)
from fewstep.studies.evaluate.tables import (
    distance_title,
    markdown,
    notes,
    order_sentence,
    tables,
    without_folders,
)
from src.sheets import picture_sheet
from src.utils import save_picture, whole_file, write_json

BASE_STYLE = Path(__file__).with_name("base.css")  # of all pages
TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
OWN_PICTURES = re.compile(
    r"(real|sheet|training_curves|(nearest|student|teacher)_nfe=\d+|(folder|nearest)_\d+)\.png"
    r"|distance_over_nfe\.svg"
)
PATHS = "save_dir export_dir data_root train_split val_split cache_dir".split()
PATHS += ["teacher_ckpt", *STARTS]
PICTURED = ("teacher", "student", "folder")  # kinds of rows whose images are shown
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
    write_text(output / "scores.md", markdown(content))
    space, figure = content["spaces"][0], output / "distance_over_nfe.svg"
    draw_distance_over_nfe(content["rows"], space, content["num_samples"], figure)
    generated = [row for row in content["rows"] if row["model"] in PICTURED]
    strips = [(row["images"], strip_of(first_images[row["images"]])) for row in generated]
    save_picture(labelled_sheet(strips), output / "sheet.png")
    sheets = []
    for place, row in enumerate(generated):
        path = output / f"{row['model']}_{_label(row, place)}.png"
        save_picture(sheet_of(first_images[row["images"]], row["images"]), path)
        sheets.append((row["images"], path))
    sections = [
        ("The same noise at each NFE", "Each column starts from one noise image.", strips),
        ("Distance over NFE", "", [(distance_title(space), figure)]),
        ("Samples", "Not chosen: the first ones of the first seed.", sheets),
    ]
    if not hide_real:
        sections += _with_real_images(content["rows"], first_images, comparison, output)
    if subjects.record:
        curves = output / "training_curves.png"
        log = read_rows(subjects.checkpoint.with_name("log.jsonl"))
        draw_curves(log, curves, PANELS, HEALTHY)
        if curves.exists():
            sections.append(("Training", "", [("curves of both phases", curves)]))
    _write_page(content, sections, _configuration(subjects), output / "report.html")


def _label(row, place):
    """What tells the picture files of rows apart."""
    return f"nfe={row['nfe']}" if row["nfe"] else str(place)


def write_text(path, text):
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _configuration(subjects):
    """{group: {key: value}} of the run, paths without their folders; {} of a bare checkpoint."""
    if not subjects.record:
        return {}
    facts = {"preset": subjects.record.get("preset")}
    phase = method_of(subjects.settings).phase.name
    facts["device"], facts["torch"] = machine_of(subjects.record, phase)
    groups = {"trained with": facts} | subjects.settings.as_dict()
    for values in groups.values():
        values |= {key: Path(values[key]).name for key in PATHS if values.get(key)}
    return groups


def _with_real_images(rows, first_images, comparison, output):
    """Report sections that show real images: some as they are, and the nearest training images."""
    (real,) = [row["images"] for row in rows if row["model"] == "real"]
    save_picture(sheet_of(first_images[real], real), output / "real.png")
    pictures = []
    for place, row in enumerate(rows):
        if row["model"] not in ("student", "folder"):
            continue
        images = first_images[row["images"]][:COMPARED]
        nearest = comparison.nearest_training(images)
        grid = np.concatenate([images, *(training for _, training in nearest)])
        path = output / f"nearest_{_label(row, place)}.png"
        labels = [row["images"], *(f"nearest training images by {name}" for name, _ in nearest)]
        save_picture(picture_sheet(grid, len(images), labels=labels), path)
        pictures.append((row["images"], path))
    names = " and ".join(name for name, _ in nearest)
    text = f"Generated images, below each its nearest training images by {names}."
    return [
        ("Real training images", "", [("what the training learns from", output / "real.png")]),
        ("Nearest training images", text, pictures),
    ]


def _write_page(content, sections, settings, path):
    """Write the report of `scores.json`.

    sections: [(title, explanation, [(title, file or PIL image)])], whose pictures go into the page
    as data, the first section under the cards, the others below the tables. settings: {group:
    {key: value}}, or {} where no run's are known.
    """
    import jinja2

    template = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        content=content,
        base_style=BASE_STYLE.read_text(encoding="utf-8"),
        reference=without_folders(content["reference"]),
        first=headline(content),
        distance_title=distance_title,
        order=order_sentence(content),
        tables=tables(content),
        pieces=_pieces,
        notes=notes(content),
        sections=[
            (title, text, [(name, _as_data(picture)) for name, picture in named])
            for title, text, named in sections
        ],
        settings=settings,
    )
    write_text(path, page)


def _pieces(cell):
    """`4.2 ± 0.1 [4.0, 4.4]` in parts between which a line may break."""
    return re.split(" (?=± |\\[)", cell)


def _as_data(picture):
    if isinstance(picture, Path):
        kind, content = TYPES[picture.suffix], picture.read_bytes()
    else:
        kind, buffer = TYPES[".png"], io.BytesIO()
        picture.save(buffer, "PNG")
        content = buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
