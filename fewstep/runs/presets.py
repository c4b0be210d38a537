"""Named settings: a size of everything, and recipes of the methods. Flags win over both."""

from fewstep.methods import METHODS
from fewstep.methods.edm import PRESETS as SCRATCH

DEFAULT_PRESET, DEFAULT_RECIPE = "full", "default"

PRESET_TEXTS = {
    DEFAULT_PRESET: "the challenge's network, for a GPU",
    "small": "hours on a CPU core, or minutes on a small GPU",
    "tiny": "minutes on two CPU cores, for a first look",
}

# What all methods share; each has its own part in its file.
SHARED = {
    DEFAULT_PRESET: {},
    "small": dict(
        network="small",
        norm_groups=16,
        batch_size=16,
        log_interval=100,
        save_interval=500,
        sample_interval=2000,
    ),
    # Short phases, and everything scaled down with them.
    "tiny": dict(
        network="tiny", batch_size=8, log_interval=50, save_interval=500, sample_interval=500
    ),
}

PRESETS = {}
for _name, _shared in SHARED.items():
    PRESETS[_name] = _shared | SCRATCH.get(_name, {})
    for _method in METHODS.values():
        PRESETS[_name] |= _method.presets.get(_name, {})

# For a method's own phase, whatever the size; what is not given here stays as the size has it.
RECIPES, RECIPE_TEXTS = {DEFAULT_RECIPE: {}}, {DEFAULT_RECIPE: "as the preset has it"}
for _method in METHODS.values():
    for _name, _recipe in _method.recipes.items():
        RECIPES[_name], RECIPE_TEXTS[_name] = _recipe.settings, _recipe.text
