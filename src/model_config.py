"""What `model_config.json` may hold: the settings that rebuild a model, and their checks."""

import difflib

from src.formatting import number_text

# "full" is the challenge's fixed network; the others are for CPUs: "small" (4.5 M parameters) for
# hours on one, "tiny" (0.4 M) for a first look.
NETWORKS = {
    "full": dict(ch=128, ch_mult=[1, 2, 2, 2], attn=[1], num_res_blocks=4, dropout=0.1),
    "small": dict(ch=32, ch_mult=[1, 1, 2, 4, 4], attn=[3], num_res_blocks=1, dropout=0.0),
    "tiny": dict(ch=32, ch_mult=[1, 1, 1, 2], attn=[3], num_res_blocks=0, dropout=0.0),
}

LEVEL_SAMPLERS = ("few_step", "ddim")  # of students: along the levels of few_step_sigmas
ODE_SAMPLERS = ("heun", "euler")  # of teachers: many steps along the ODE
SAMPLERS = (*ODE_SAMPLERS, *LEVEL_SAMPLERS)

# What the network of a denoiser sees and predicts at a level, see `CustomScheduler.scales`.
PRECONDITIONINGS = ("edm", "flow")

# All that rebuilds a model: the keys of `model_config.json`, here with an untrained one's values.
MODEL_DEFAULTS = dict(
    model_type="edm_denoiser",  # what the network predicts: a key of DEFAULTS
    scheduler_type="edm",  # follows from it; kept because the challenge saves it
    network="full",  # a key of NETWORKS
    use_additional_condition=False,  # tell the network the level its output will be re-noised to
    norm_groups=32,  # groups of the network's normalisation; so many in files that do not say
    num_train_timesteps=1000,  # range of the network's time input, see `CustomScheduler.tau`
    preconditioning="edm",  # what the network sees and predicts: a key of `PRECONDITIONINGS`
    sigma_data=0.5,  # standard deviation of the training images in [-1, 1]
    sigma_min=0.002,  # lowest level of the ODE sampler
    sigma_max=80.0,  # highest level of the ODE sampler
    rho=7.0,  # spacing of the ODE sampler's levels, EDM eq. 5
    p_mean=-1.2,  # mean of ln sigma in training, EDM table 1
    p_std=1.2,  # its standard deviation
    noise_offset=0.0,  # standard deviation of the part of the noise that a whole channel shares
    sampler="heun",  # "heun" or "euler" integrate the ODE (teacher); LEVEL_SAMPLERS (student)
    few_step_sigmas={"1": [80.0], "2": [80.0, 1.5], "4": [80.0, 4.0, 1.5, 0.54]},  # by NFE
)

# The same of a network that predicts a velocity, see `src/flow.py`.
FLOW_DEFAULTS = dict(
    model_type="rectified_flow",
    scheduler_type="straight_lines",
    network="full",
    use_additional_condition=False,  # tell the network the length of the step
    norm_groups=32,
    num_train_timesteps=1000,
)

DEFAULTS = {kind["model_type"]: kind for kind in (MODEL_DEFAULTS, FLOW_DEFAULTS)}

# Values beyond these would not fit into memory, or give numbers that are not finite.
RANGES = dict(
    num_train_timesteps=(1, 1e6),
    sigma_data=(1e-4, 1e4),
    sigma_min=(1e-6, 1e4),
    sigma_max=(1e-6, 1e4),
    rho=(0.1, 100),
    p_mean=(-20, 20),
    p_std=(0, 10),
    noise_offset=(0, 100),
)
HIGHEST_LEVEL, MOST_LEVELS = 1e4, 1000  # of few_step_sigmas
NORM_GROUPS = [32, 16, 8, 4, 2, 1]  # all divide the widths of all networks
LATER = dict(norm_groups=32, preconditioning="edm")  # that saved models of earlier versions lack


def with_later_keys(config):
    """A saved model's `config` with the keys that it lacks if it is of an earlier version."""
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in DEFAULTS:
        return config
    return {key: value for key, value in LATER.items() if key in DEFAULTS[kind]} | config


def whole_config(config):
    """`config` with the defaults of its kind for what it lacks. Raises `ValueError` for the first
    thing in it that cannot be."""
    kind = config.get("model_type", MODEL_DEFAULTS["model_type"])
    _check_name("model_type", kind, DEFAULTS)
    defaults = DEFAULTS[kind]
    for key in config:
        if key not in defaults:
            near = difflib.get_close_matches(str(key), defaults, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown model setting {key!r}{hint}")
    config = with_later_keys(config)
    missing = [key for key in defaults if key not in config]
    if missing and "model_type" in config:
        raise ValueError(f"model setting {missing[0]!r} is missing; a saved model has all of them")
    for key, value in config.items():
        if key in RANGES:
            _check_number(key, value, *RANGES[key], whole=isinstance(defaults[key], int))
    config = {**defaults, **config}
    _check_name("network", config["network"], NETWORKS)
    if config["norm_groups"] not in NORM_GROUPS:
        numbers = ", ".join(map(str, NORM_GROUPS))
        raise ValueError(f"norm_groups {config['norm_groups']!r}: use one of {numbers}")
    _check_name("scheduler_type", config["scheduler_type"], [defaults["scheduler_type"]])
    for key, known in (("sampler", SAMPLERS), ("preconditioning", PRECONDITIONINGS)):
        if key in config:
            _check_name(key, config[key], known)
    if not isinstance(config["use_additional_condition"], bool):
        raise ValueError(f"use_additional_condition {config['use_additional_condition']!r}: a bool")
    return config


def _check_name(key, value, known):
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{key} {value!r}: use one of {', '.join(known)}")


def _check_number(name, value, low, high, whole=False):
    kinds, what = (int, "a whole number") if whole else ((int, float), "a number")
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        limits = f"from {number_text(low)} to {number_text(high)}"
        raise ValueError(f"{name} {value!r}: {what} {limits} is needed")


def checked_levels(table):
    """JSON's {"2": [80, 1.5]} -> {2: [80.0, 1.5]}, each row as long as its key and falling."""
    if not isinstance(table, dict) or not table:
        raise ValueError(f"few_step_sigmas {table!r}: levels by NFE are expected")
    levels = {}
    for nfe, row in table.items():
        if not str(nfe).isdecimal() or not 0 < int(nfe) <= MOST_LEVELS:
            raise ValueError(f"few_step_sigmas: {nfe!r} is no number of evaluations")
        if not isinstance(row, (list, tuple)):
            raise ValueError(f"few_step_sigmas: the levels of NFE {nfe} are no list")
        for sigma in row:
            _check_number("few_step_sigmas", sigma, RANGES["sigma_min"][0], HIGHEST_LEVEL)
        if len(row) != int(nfe) or any(a <= b for a, b in zip(row, row[1:])):
            raise ValueError(f"few_step_sigmas: {nfe} levels, falling and above 0, not {row}")
        levels[int(nfe)] = [float(sigma) for sigma in row]
    return levels
