"""A table with thin rules on a `Page`."""

from fewstep.handin.writeup.geometry import MARGIN, WIDTH, width_of
from fewstep.handin.writeup.pages import GREY, INK, LEADING, Overfull


def draw_table(page, head, rows):
    """A table with thin rules; a head may have two lines. The first column is left-aligned."""
    size, line = page.small, page.small * LEADING
    columns = list(zip(*([cell.split("\n") for cell in row] for row in [head, *rows])))
    widths = [
        max(width_of(text, size, "normal") for cell in column for text in cell)
        for column in columns
    ]
    gap = (WIDTH - sum(widths)) / max(1, len(widths) - 1)
    if gap < 0.6 * size:
        raise Overfull("a table is too wide")
    rights = [MARGIN + sum(widths[: i + 1]) + gap * i for i in range(len(widths))]
    deep = max(len(cell.split("\n")) for cell in head)
    top, artists = page.y, [page.rule(page.y)]
    for place, row in enumerate([head, *rows]):
        for column, cell in enumerate(row):
            texts = cell.split("\n")
            for level, text in enumerate(texts):
                x = rights[column] if column else MARGIN
                y = page.y + 4 + line * level + size * 0.95
                align = "right" if column else "left"
                colour = INK if place else GREY
                artists.append(page.put(x, y, text, size, "normal", colour, align))
        page.y += line * (1 if place else deep) + 4
        if not place:
            artists.append(page.rule(page.y + 1.5))
            page.y += 1.5
    page.y += 2
    artists.append(page.rule(page.y))
    height, page.y = page.y - top, top
    page.take(height, "table", artists)
