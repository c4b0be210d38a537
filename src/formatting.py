"""How tables, sizes, durations and lists of names are written in messages and reports."""

import shutil
from textwrap import fill, wrap

from src.errors import one_line

UNITS = {"MB": 10**6, "MiB": 2**20, "GiB": 2**30}  # bytes
LONGEST_NAME = 100  # characters of a name in a message
MOST_NAMES = 10
NARROW, WIDE = 80, 100  # characters of a line on a terminal
FIRST_COLUMN = 16  # characters that it keeps where others need room
BETWEEN = "  "  # columns


def size_text(count, unit="MiB", digits=1):
    """`count` bytes in "MB", "MiB" or "GiB": `12.5 MiB`."""
    return f"{count / UNITS[unit]:,.{digits}f} {unit}"


def number_text(value):
    """A limit as people write it: whole numbers of up to 16 digits in full, not as 1e+06."""
    return str(int(value)) if value == int(value) and abs(value) < 1e16 else f"{value:g}"


def markdown_table(header, rows):
    """A Markdown table of texts: column titles and rows of as many cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def terminal_width():
    """How many characters a line may have: 100 where the terminal has them, else 80."""
    return WIDE if shutil.get_terminal_size().columns >= WIDE else NARROW


def text_table(header, rows, width):
    """A table of texts for a terminal, its lines of at most `width` characters: column titles and
    rows of as many cells. The first column gets more lines, and the last ones are left out, where
    there is no room."""
    columns = list(zip(header, *rows))
    sizes = [max(map(len, column)) for column in columns]
    least = min(FIRST_COLUMN, sizes[0])
    while len(sizes) > 1 and least + sum(len(BETWEEN) + size for size in sizes[1:]) > width:
        sizes.pop()
    sizes[0] = min(sizes[0], width - sum(len(BETWEEN) + size for size in sizes[1:]))
    lines = []
    for first, *others in [header, *rows]:
        begin, *more = wrap(first, sizes[0], subsequent_indent="  ") or [""]
        cells = [text.rjust(size) for text, size in zip(others, sizes[1:])]
        lines += [BETWEEN.join([begin.ljust(sizes[0]), *cells]).rstrip(), *more]
    return "\n".join(lines)


def paragraphs(texts, width):
    """Texts below each other, with line breaks where they are longer than `width` characters."""
    return "\n".join(fill(text, width, break_on_hyphens=False) for text in texts)


def short_name(name):
    """A name on one line: control characters escaped, the middle left out of a very long one."""
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[:60]}...{name[-37:]}"


def first_names(names, most=MOST_NAMES):
    """The first of `names`, separated by commas, and dots where there are more."""
    return ", ".join(map(short_name, names[:most])) + (", ..." if len(names) > most else "")


def duration(seconds):
    """3725 -> 1 h 2 min; 125 -> 2 min 5 s; 14.7 -> 14.7 s."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}\u00a0s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}\u00a0min {whole % 60}\u00a0s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"
