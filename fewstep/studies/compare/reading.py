"""What the values of a plan mean: one value has one form, however spelled."""

from fewstep.methods.adversary_settings import head_resolutions, policy_names
from fewstep.runs.flag_values import as_text, parsed_value

LISTS = {"augment": policy_names, "disc_heads": head_resolutions}  # texts of several values


def flag_value(key, value):
    """What train.py makes of a flag's value, which may be a text: 0.001 and 1e-3 are one.

    Whole numbers are `int`, for a flag of any number too. Raises `UserError` as `parsed_value`.
    """
    parsed = parsed_value(key, value)
    if key in LISTS:
        return as_text(LISTS[key](parsed))
    return [_plain(one) for one in parsed] if isinstance(parsed, list) else _plain(parsed)


def shown_text(value):
    """The same as `as_text`, for tables, where an empty value is to be seen."""
    return as_text(value) or "(none)"


def _plain(value):
    return int(value) if isinstance(value, float) and value.is_integer() else value
