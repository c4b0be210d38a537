"""How a budget of time is shared out: pure arithmetic from measured images a second to steps.

Costs are seconds of one image in a training of that name. A forward pass is what arithmetic hangs
on: training the teacher costs three of them an image (one forward, a backward of two).
"""

LEAST_STEPS = 20  # of any training; fewer would show nothing
# Of one forward pass: the student's three, the teacher's one, and what it feeds itself.
DISTILL_ONLY_PASSES = 5.0
SAFETY = 0.95  # share of the time that is planned with


def image_costs(teacher_rate, student_rate):
    """{training: seconds an image} from the images a second of the teacher and the ADD student.

    The flow is the teacher's network and step. Without distillation the student saves the
    teacher's forward pass, without a discriminator all but `DISTILL_ONLY_PASSES`.
    """
    teacher, student = 1 / teacher_rate, 1 / student_rate
    forward = teacher / 3
    return {
        "teacher": teacher,
        "flow": teacher,
        "student": student,
        "disc_only": max(student - forward, 3 * forward),
        "distill_only": min(student, DISTILL_ONLY_PASSES * forward),
    }


def steps_that_fit(seconds, costs, batch_size, wanted, fixed, teacher_share=0.5, most=10**9):
    """{training: steps} of the `wanted` trainings that take `seconds` together.

    fixed: {"teacher" or "student": steps} that are settled, whether still to be trained (wanted) or
    not. Of the two that are not settled the teacher takes `teacher_share` of their common time. The
    flow sees as many images as teacher and student together, and both halves of the method as many
    as the student. Neither teacher nor student takes more than `most` steps; where the time is too
    short, 0 steps say so.
    """
    free = [name for name in ("teacher", "student") if name in wanted and name not in fixed]
    shares = {"teacher": teacher_share, "student": 1 - teacher_share}
    if len(free) == 1:
        shares = dict.fromkeys(free, 1.0)

    def steps_of(time):
        """Steps, not rounded, where the free ones of teacher and student take `time`."""
        found = {"teacher": 0.0, "student": 0.0} | fixed
        for name in free:
            found[name] = shares[name] * time / costs[name] / batch_size
        found["flow"] = found["teacher"] + found["student"]
        found["disc_only"] = found["distill_only"] = found["student"]
        return found

    def seconds_of(time):
        steps = steps_of(time)
        return sum(steps[name] * batch_size * costs[name] for name in wanted)

    without = seconds_of(0.0)
    time = max(0.0, seconds - without) / (seconds_of(1.0) - without) if free else 0.0
    steps = steps_of(time)
    least = min(LEAST_STEPS, most)
    found = {name: min(most, int(steps[name])) for name in free}
    whole = {name: count if count >= least else 0 for name, count in found.items()} | fixed
    whole["flow"] = whole.get("teacher", 0) + whole.get("student", 0)
    whole["disc_only"] = whole["distill_only"] = whole.get("student", 0)
    return {name: whole[name] for name in wanted}


def training_seconds(steps, costs, batch_size):
    """{training: seconds} of {training: steps}."""
    return {name: count * batch_size * costs[name] for name, count in steps.items()}


def score_seconds(nfes, seeds, num_samples, evaluation, set_seconds):
    """Seconds to draw and score a row for each of `nfes` (0: real images) and seed. evaluation:
    seconds of one network evaluation of an image; set_seconds: of the metrics of a set."""
    return sum(seeds * (set_seconds + num_samples * nfe * evaluation) for nfe in nfes)


def tuning_seconds(samples, evaluation, distance_seconds):
    """Seconds of the search for levels at NFE 1, 2 and 4: six trials a level, two starts at most
    (`evaluation.level_search`)."""
    trials = {1: 1 + 6, 2: 2 + 12, 4: 2 + 24}
    return sum(
        count * (distance_seconds + nfe * samples * evaluation) for nfe, count in trials.items()
    )


def compile_pays(seconds, eager_rate, compiled_rate, warm_seconds):
    """Whether a process of `seconds` sees more images compiled, its warm-up taken off."""
    return max(0.0, seconds - warm_seconds) * compiled_rate > seconds * eager_rate


def schedule(tasks, command_seconds, restart):
    """Lay tasks, (name, seconds, is_stoppable) each, out over commands of `command_seconds`: a list
    of [(name, seconds), ...].

    A stoppable task goes on in the next command, which costs `restart` seconds once more; another
    one begins where it fits, or in a command of its own. Raises `ValueError` where commands are too
    short to get anywhere.
    """
    if command_seconds <= 2 * restart:
        raise ValueError(f"commands of {command_seconds:.0f} s, restarts of {restart:.0f} s")
    commands, left = [[]], command_seconds
    for name, seconds, is_stoppable in tasks:
        while seconds > 0:
            does_fit = left > 2 * restart if is_stoppable else seconds <= left
            if not does_fit and commands[-1]:
                commands.append([])
                left = command_seconds
                continue
            used = min(seconds, left) if is_stoppable else seconds
            commands[-1].append((name, used))
            seconds, left = seconds - used, left - used
            seconds += restart if seconds > 0 else 0.0
    return commands
