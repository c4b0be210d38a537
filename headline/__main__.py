"""`python -m headline`: one real run within a budget of time. See `headline.command_line`."""

import signal
import sys
import time

import torch

import headline
from headline import plan
from headline.command_line import parse_arguments
from headline.limits import limits_line
from headline.publish import ALL, FEW, publish
from headline.run import RealRun
from src.utils import UserError, run_command

SHOWN_LINES = 24  # of a plan
MORE_TO_DO = 75  # exit code: run the same command again


def main(argv=None, began=None):
    """Work off one command; `began`: `time.monotonic` of its start. Returns the exit code: 0 when
    all parts are done, 75 when there is more to do, 1 when a part has failed."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_arguments(argv)
    flags = vars(args)
    run = RealRun(flags, time.monotonic() if began is None else began)
    check_commands(run)
    if flags["dry_run"]:
        print(describe(run))
        return 0
    if run.device == "cuda" and not torch.cuda.device_count():
        raise UserError(
            f"--device {flags['device']}: is not there; a trial: --device cpu --preset tiny"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    run.state.begin_command(argv)
    run.take_measured()
    try:
        is_over = run.work_off()
    finally:
        run.state.spend(time.monotonic() - run.forecast.began)
        names = FEW if flags["parts"] == ["weights"] else ALL
        content = publish(run.work, flags["out"], run.state.content, flags, names)
    print_targets(content["targets"])
    print(limits_line(flags["out"]))
    if not is_over:
        print("not finished: run the same command again")
        return MORE_TO_DO
    print(f"failed: {', '.join(run.failed)}" if run.failed else "all parts are done")
    return int(bool(run.failed))


def print_targets(found):
    for target in found:
        holds = {True: "yes", False: "no", None: "not known"}[target["holds"]]
        print(f"{target['name']}: {target['found']}, wanted {target['wanted']}: {holds}")


def check_commands(run):
    """Raise `UserError` where commands, or the whole time, are too short to get anywhere."""
    if run.command_seconds() <= 2 * run.restart():
        least = run.command_minutes_for(2 * run.restart())
        raise UserError(f"--command_minutes: too short to start and to save; at least {least:.1f}")
    free = [name for name in ("teacher", "student") if name in run.forecast.asked()]
    steps = run.forecast.steps()
    for name in free:
        if not run.state.is_done(name) and not run.state.steps.get(name):
            run.forecast.training(name, steps[name])


def describe(run):
    """The plan: what each command would do. Writes nothing."""
    flags, tasks, lines = run.flags, [], []
    for part in flags["parts"]:
        try:
            tasks += run.tasks(part)
        except UserError as error:
            lines.append(f"{part}: {error}")
    for task in tasks:
        steps = f", {task.steps:,} steps" if task.steps else ""
        lines.append(f"{task.name}: about {task.seconds / 60:.1f} min{steps}")
    known = [(task.name, task.seconds, task.is_stoppable) for task in tasks]
    commands = plan.schedule(known, run.command_seconds(), run.restart())
    for number, content in enumerate(commands, 1):
        told = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in content)
        lines.append(f"command {number} (minutes): {told or 'nothing to do'}")
    lines = [*lines[:SHOWN_LINES], *["..."] * (len(lines) > SHOWN_LINES)]
    total = sum(task.seconds for task in tasks) / 60
    lines.append(f"about {total:.1f} min of work for {flags['minutes']:g} min")
    if not (run.work / "speed.json").exists():
        lines.append("images a second are guessed until the part `speed` has measured them")
    lines.append("dry run: nothing was trained or written")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(lambda: main(began=headline.BEGAN))
