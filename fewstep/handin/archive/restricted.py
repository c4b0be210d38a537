"""Run a script as on the graders' machine: `python -I restricted.py REQUEST`, in its folder.

REQUEST is JSON: `script`, its `arguments`, and the `packages` that may be imported beside the
standard library and the working directory. Any other is as absent as if it were not installed.
This file runs alone: it imports nothing of the project.
"""

import json
import os
import runpy
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder


class GradersFinder:
    """The usual search for modules, which finds only what `allowed` names."""

    def __init__(self, allowed):
        self.allowed = allowed

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            return None
        for finder in (BuiltinImporter, FrozenImporter, PathFinder):
            spec = finder.find_spec(name, path)
            if spec is not None:
                return spec
        return None

    def find_distributions(self, *context):
        """For packages that look up a version by `importlib.metadata`."""
        return PathFinder.find_distributions(*context)


def main():
    request = json.loads(sys.argv[1])
    here = os.getcwd()
    local = {os.path.splitext(name)[0] for name in os.listdir(here)}
    allowed = {*request["packages"], *sys.stdlib_module_names, *local}
    # The finders of packages installed in editable mode go too: they would find the project itself.
    sys.meta_path[:] = [GradersFinder(allowed)]
    sys.path.insert(0, here)
    sys.argv = [request["script"], *request["arguments"]]
    runpy.run_path(request["script"], run_name="__main__")


if __name__ == "__main__":
    main()
