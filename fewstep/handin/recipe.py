"""What a run was told beyond the defaults."""

from fewstep.runs.settings import NOT_IDENTITY, Settings, flat

LEFT_OUT = ("run", "speed")  # groups of settings that say where and how fast


def changed_settings(groups):
    """{flag: value} of what differs from the defaults and matters to the result.

    groups: the `settings` of a training_config.json, {} where there are none.
    """
    values = flat({name: group for name, group in groups.items() if name not in LEFT_OUT})
    defaults = flat(Settings().as_dict())
    return {
        key: value
        for key, value in values.items()
        if key not in NOT_IDENTITY and value != defaults.get(key, value)
    }
