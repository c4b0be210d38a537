"""The README: short, its links lead somewhere, and its lines for a notebook run as they stand."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.network import UNet

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MOST_WORDS, MOST_LINES = 900, 3
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md"]
PAGES += [ROOT / "checkpoints" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_it_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    paragraphs = FENCED.sub("", text).split("\n\n")
    prose = [part.strip().splitlines() for part in paragraphs if not part.strip().startswith("|")]
    assert [lines for lines in prose if len(lines) > MOST_LINES] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_and_those_of_the_docs_lead_somewhere(page):
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    places = [link.partition("#")[0] for link in links if not link.startswith("https://")]
    assert [place for place in places if not (page.parent / place).exists()] == []


def test_the_lines_for_a_notebook_show_images_of_one_evaluation(monkeypatch):
    (source,) = [code for kind, code in FENCED.findall(README.read_text()) if kind == "python"]
    *lines, last = ast.parse(source).body
    assert len(lines) <= 5 and isinstance(last, ast.Expr), "a notebook shows the last expression"
    monkeypatch.chdir(ROOT)

    names, evaluations, forward = {}, [], UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda *x: evaluations.append(1) or forward(*x))
    for line in lines:
        exec(ast.unparse(line), names)
    picture = eval(ast.unparse(last), names)

    assert evaluations == [1] and names["images"].shape == (16, 3, 64, 64)
    assert isinstance(picture, Image.Image) and np.asarray(picture).std() > 0
    assert picture.size == (8 * (2 * 64 + 2) + 2, 2 * (2 * 64 + 2) + 2)  # two rows of eight
