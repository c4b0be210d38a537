"""The page of all flags, docs/flags.md, from the settings: `python -m fewstep flags`."""

from dataclasses import MISSING, fields

from fewstep.methods import METHODS
from fewstep.runs.settings import GROUPS

HEAD = """# All flags of train.py

Made by `python -m fewstep flags > docs/flags.md` from the settings, which also give
`python train.py --help`. Defaults are those of `--preset full`.

`--config FILE` reads flags from YAML or JSON (`lr: 1e-3`, `preset: tiny`, ...); those on the
command line win. A run's own `training_config.json` is such a file and repeats the run, on a CPU to
the same bits. Where the run was written is left aside: `--save_dir` names the new folder, else it
is below `results/`.
"""


def flags_page():
    """The page as Markdown."""
    parts = [HEAD, "Methods: " + "; ".join(f"`{m.name}`: {m.summary}" for m in METHODS.values())]
    for group in GROUPS.values():
        rows = [
            f"## {group.__doc__.rstrip('.')}",
            "",
            "| flag | default | meaning |",
            "|---|---|---|",
        ]
        rows += [
            f"| `--{item.name}` | {_default(item)} | {_meaning(item)} |" for item in fields(group)
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _default(item):
    value = item.default_factory() if item.default is MISSING else item.default
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value == "" else str(value)


def _meaning(item):
    choices = item.metadata["choices"]
    text = item.metadata["text"] + (f" ({', '.join(choices)})" if choices else "")
    return text.replace("|", "\\|")


def main(arguments=None):
    print(flags_page(), end="")
    return 0
