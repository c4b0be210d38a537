"""YAML files, read strictly: values are texts as they are written, and no key is there twice."""

from functools import cache
from pathlib import Path

from src.errors import package_for
from src.utils import UserError, reason_of

MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path, example):
    """The mapping in a YAML file, its values texts, lists and mappings. example: a key that it
    might have. Raises `UserError`, also where PyYAML is not installed."""
    yaml = package_for(f"{path}: reading YAML", "yaml", "pyyaml")
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.load(text, _loader(yaml)) or {}  # a safe loader
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: {error.problem}" if mark else reason_of(error)
        raise UserError(f"{path}: not readable as YAML ({place})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: keys and values are expected, such as {example}")
    return content


@cache
def _loader(yaml):
    """The class of the loader, made where the package is there."""
    safe = yaml.SafeLoader
    # Of the plain words that YAML gives a meaning, `<<` (take in another mapping) alone keeps it:
    # 010 is no 8, 1:30 no 90, on stays a word.
    merge = {"<": [one for one in safe.yaml_implicit_resolvers["<"] if one[0] == MERGE]}

    class Loader(safe):
        yaml_implicit_resolvers = merge

        def compose_mapping_node(self, anchor):
            node, names = super().compose_mapping_node(anchor), set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                    if key.value in names:
                        raise yaml.MarkedYAMLError(
                            problem=f"{key.value} is there twice", problem_mark=key.start_mark
                        )
                    names.add(key.value)
            return node

    return Loader
