"""docs/challenge.ipynb from docs/challenge.md: `python .ci/notebook.py`.

Text stays text. A block of shell lines becomes a cell that ends at its first error, but for lines
`cd DIR`, which become cells of their own: later ones start there. A block of Python stays one.
"""

import json
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, NOTEBOOK = DOCS / "challenge.md", DOCS / "challenge.ipynb"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGING = re.compile(r"^cd (.+)\n", re.MULTILINE)


def cells_of(page):
    """The cells of a page, as a notebook has them."""
    text, *parts = BLOCK.split(page)
    cells = [_cell("markdown", text)]
    for kind, code, text in zip(parts[::3], parts[1::3], parts[2::3]):
        cells += [_cell("code", source) for source in _sources(kind, code)]
        cells.append(_cell("markdown", text))
    return [cell for cell in cells if cell["source"]]


def _sources(kind, code):
    if kind == "python":
        return [code]
    sources = []
    for place, lines in enumerate(CHANGING.split(code)):
        sources.append(f"%cd {lines}" if place % 2 else f"%%bash -e\n{lines}")
    return [source for source in sources if source != "%%bash -e\n"]


def _cell(kind, source):
    own = {"execution_count": None, "outputs": []} if kind == "code" else {}
    lines = source.strip().splitlines(keepends=True)
    return {"cell_type": kind, "metadata": {}, **own, "source": lines}


def notebook_of(page):
    """The text of the notebook file of a page."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "accelerator": "GPU", "colab": {"gpuType": "T4"}}
    content = {"cells": cells_of(page), "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
