"""`report.html`: all of an evaluation in one file that needs no network and no other file."""

import base64
import io
from pathlib import Path

from fewstep.studies.evaluate.tables import distance_title, notes, tables, without_folders
from src.utils import whole_file

TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def write_report(content, pictures, settings, path):
    """Write the report of `scores.json`.

    pictures: [(section, explanation, [(title, file or PIL image)])]. settings: {group: {key:
    value}}, or {} where no run's are known. Pictures go into the page as data.
    """
    import jinja2

    template = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        content=content,
        reference=without_folders(content["reference"]),
        cards=_cards(content),
        tables=tables(content),
        notes=notes(content),
        sections=[
            (title, text, [(name, _as_data(picture)) for name, picture in named])
            for title, text, named in pictures
        ],
        settings=settings,
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _cards(content):
    """The headline: [(title, value, unit)] of the student's rows."""
    space = content["spaces"][0]
    rows = [row for row in content["rows"] if row["model"] == "student"]
    scores = [(row["images"], row["scores"][space["name"]]["frechet"]["mean"]) for row in rows]
    return [(title, f"{mean:.2f}", distance_title(space)) for title, mean in scores]


def _as_data(picture):
    if isinstance(picture, Path):
        kind, content = TYPES[picture.suffix], picture.read_bytes()
    else:
        kind, buffer = TYPES[".png"], io.BytesIO()
        picture.save(buffer, "PNG")
        content = buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
