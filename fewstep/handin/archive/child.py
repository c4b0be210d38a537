"""Scripts in a child process that is to a submission what the graders' machine is."""

import json
import subprocess
import sys
from pathlib import Path

from fewstep.handin.archive.environment import grading_packages

HERE = Path(__file__).resolve().parent


def run_restricted(folder, script, *arguments):
    """Run a script in `folder` with nothing to import but the standard library, that folder and the
    grading environment's packages. Returns the finished process, output captured as text."""
    request = {
        "script": str(script),
        "arguments": [str(argument) for argument in arguments],
        "packages": sorted(grading_packages()),
    }
    # -I: no PYTHONPATH, no user packages, not this project; -B: no caches among the files
    command = [sys.executable, "-I", "-B", str(HERE / "restricted.py"), json.dumps(request)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")


def failure_of(process):
    """Why a process failed, in one line: its exit code and the last line on stderr."""
    lines = process.stderr.strip().splitlines() or ["nothing on stderr"]
    return f"exit code {process.returncode}, {lines[-1].strip()}"
