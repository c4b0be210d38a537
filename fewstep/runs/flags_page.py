"""The page of all flags, docs/flags.md, from the settings: `python -m fewstep flags`."""

from fewstep.methods import METHODS
from fewstep.runs.help_page import GOING_ON, default_of, value_text
from fewstep.runs.presets import PRESET_TEXTS, PRESETS, RECIPE_TEXTS, RECIPES
from fewstep.runs.sections import sections
from fewstep.runs.settings import Settings, flat
from src.formatting import markdown_table

HEAD = f"""# All flags of train.py

Made by `python -m fewstep flags > docs/flags.md` from the settings, which also give
`python train.py --help`. Defaults are those of `--preset full`; what the others change stands at
the end. `python train.py --preset small --method reflow --help` shows the flags of one method with
the defaults of one preset.
NFE is the number of evaluations of the network that an image takes.
There is no `--resume`: {GOING_ON}.

`--config FILE` reads flags from YAML or JSON (`lr: 1e-3`, `preset: tiny`, ...); those on the
command line win. A run's own `training_config.json` is such a file and repeats the run, on a CPU to
the same bits. Where the run was written is left aside: `--save_dir` names the new folder, else it
is below `results/`.
"""


def flags_page():
    """The page as Markdown."""
    parts = [HEAD, "Methods: " + "; ".join(f"`{m.name}`: {m.summary}" for m in METHODS.values())]
    for title, items in sections().items():
        rows = [
            [f"`--{item.name}`", value_text(default_of(item)), _meaning(item)] for item in items
        ]
        parts.append(f"## {title}\n\n{markdown_table(['flag', 'default', 'meaning'], rows)}")
    parts += [_presets(), _recipes()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _meaning(item):
    choices = item.metadata["choices"]
    text = item.metadata["text"] + (f" ({', '.join(choices)})" if choices else "")
    return text.replace("|", "\\|")


def _presets():
    """Which flags the presets change, a column each."""
    lines = [f"- `{name}`: {text}" for name, text in PRESET_TEXTS.items()]
    usual = flat(Settings().as_dict())
    changed = {name for preset in PRESETS.values() for name in preset}
    rows = [
        [f"`--{name}`", *(value_text(preset.get(name, value)) for preset in PRESETS.values())]
        for name, value in usual.items()
        if name in changed
    ]
    table = markdown_table(["flag", *PRESETS], rows)
    return "\n".join(["## What `--preset` changes", "", *lines, "", table])


def _recipes():
    lines = []
    for name, values in RECIPES.items():
        flags = " ".join(f"--{key} {value_text(value)}" for key, value in values.items())
        lines.append(f"- `{name}`: {RECIPE_TEXTS[name]}" + (f": `{flags}`" if flags else ""))
    return "\n".join(["## What `--recipe` changes", "", *lines])


def main(arguments=None):
    print(flags_page(), end="")
    return 0
