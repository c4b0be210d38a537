"""The outcome of a check, and how lists in it are written."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the checklist. `detail`: what is so, or what is wrong and what to do."""

    name: str
    ok: bool
    detail: str

    def __str__(self):
        return f"{'✓' if self.ok else '✗'} {self.name}: {self.detail}"


def verdict(name, problems, fine):
    """A finding from a list of problems: none is ✓ with the detail `fine`."""
    return Finding(name, not problems, "; ".join(problems) or fine)


def some(names, most=3):
    """The first few of `names` in order, and how many there are if not all are shown."""
    names = sorted(names)
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def megabytes(size):
    return f"{size / 1e6:.1f} MB"
