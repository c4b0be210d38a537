"""The results folder of a run: at most eight small files, written anew by every command."""

import json
import shutil
from pathlib import Path

from headline import pictures, text
from headline.collect import all_rows, collect, row_names
from src.utils import whole_file, write_json

# Beside packed weights, which take five files, these alone.
FEW = ("results.json", "results.md", "sheet.png")
ALL = (*FEW, "curves.png", "log.jsonl", "screening.md", "screening.png", "profile.txt")


def publish(work, out, state, flags, names=ALL):
    """Write those of the files `names` whose content is there to the folder `out`.

    state: content of the run's state file; flags: those of the present command.
    """
    work, out = Path(work), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    content, rows = collect(work, state, flags), all_rows(work, state["steps"])
    screening = work / "screening"
    writers = {
        "results.json": lambda path: write_json(path, content),
        "results.md": lambda path: _write(path, text.markdown(content)),
        "sheet.png": lambda path: pictures.draw_sheet(work, row_names(work), path),
        "curves.png": lambda path: pictures.draw_curves(rows, flags["batch_size"], path),
        "log.jsonl": lambda path: _write(path, "".join(json.dumps(row) + "\n" for row in rows)),
        "screening.md": lambda path: _copy(screening / "ablation.md", path),
        "screening.png": lambda path: pictures.draw_screening(screening, path),
        "profile.txt": lambda path: _copy(work / "profile.txt", path),
    }
    for name in names:
        writers[name](out / name)
    return content


def _write(path, content):
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _copy(source, path):
    if source.exists():
        with whole_file(path) as temporary:
            shutil.copyfile(source, temporary)
