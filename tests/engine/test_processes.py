"""Processes that train together: each step is that of one process that takes all their parts."""

import os
import signal
import sys
import time

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from fewstep.engine.log import read_rows
from fewstep.engine.loop import train
from fewstep.engine.microbatch import split
from fewstep.engine.phase import Phase, Turn, take_turn
from fewstep.engine.processes import ALONE, from_environment
from fewstep.engine.stopping import TIME_IS_UP, Interrupted
from src.utils import UserError
from tests.forks import CONTEXT
from tests.students import AT_ONCE, build_teacher, job_in, student_of, tiny_settings

# What is nothing but rounding, Adam enlarges.
pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, STEPS, CPU = 2, 4, torch.device("cpu")
BASE = AT_ONCE | dict(batch_size=4, student_iterations=STEPS, student_ema_images=20.0)
BASE |= dict(self_input_share=1.0)  # parts of two images have no room for a third kind of input
SID = dict(distill="sid", disc="unet", penalty="r1r2", penalty_interval=2, disc_steps=2)
# The target lies between what the two processes find by themselves.
ADA = dict(augment="color,translation", augment_p=0.2, ada_target=0.75, ada_images=100.0)
FLAGS = {
    "sid": SID | dict(joint_disc=False, disc_channels=32),
    "patch": dict(
        disc="patch", disc_level=True, joint_disc=False, gan_loss="relativistic", warm_start=1
    ),
    "frozen": dict(distill="dmd", disc="none", disc_warmup=1, freeze_convs=True, updates="loop"),
    "condition": dict(use_additional_condition=True, distill="dmd", disc="none"),
    # A single head on an early map leaves the later layers of the network without gradients.
    "one head": ADA | dict(disc="resnet", disc_heads="16", student_dropout=0.1, penalty="r1"),
    # The target's dropout is that of the answer, whichever process makes them.
    "consistency": dict(student_start="consistency", consistency_steps=2, student_dropout=0.1),
    "gan": dict(distill="none", disc="unet", disc_start="teacher", disc_channels=0),
}


def make_student(flags, processes):
    return student_of(tiny_settings(BASE, flags), processes)


def own_parts(step, processes, each=1):
    """Parts of two images: one process takes all, several take `each`."""
    whole = COUNT * each
    images = torch.rand(2 * whole, 3, 32, 32, generator=torch.Generator().manual_seed(step)) * 2 - 1
    parts = split(images, [100 * step + part for part in range(whole)])
    first = processes.rank * each
    return parts if processes.count == 1 else parts[first : first + each]


def learners(phase):
    return phase.learners


def keep_gradients(learner, found):
    """Let `learner` copy its gradients to the list `found` whenever it is about to apply them."""
    update = learner.update

    def watched(step):
        found.append([p.grad.clone() for p in learner.parameters])
        return update(step)

    learner.update = watched


def steps_of(flags, processes):
    """What steps leave behind: metrics, gradients and everything that a checkpoint holds."""
    phase, gradients, rows = make_student(flags, processes), [], []
    for learner in learners(phase):
        keep_gradients(learner, gradients)
    for step in range(STEPS):
        row = phase.step(own_parts(step, processes), step)
        rows.append({key: float(value) for key, value in row.items()})
    return {"rows": rows, "gradients": gradients, "state": phase.state_dict()}


def gradients_of_parts(processes):
    """All networks' gradients of a step in two parts a process. None of them moves before the next
    is asked: rounding of one would be magnified by the other."""
    flags = dict(distill="dmd", disc="patch", fake_lr=0.0, disc_lr=0.0, student_lr=0.0)
    phase, gradients = make_student(flags, processes), []
    for learner in learners(phase):
        keep_gradients(learner, gradients)
    phase.step(own_parts(0, processes, each=2), 0)
    return gradients


def exchanges(processes):
    """The order of parts and exchanges of gradients in a step of three parts a process."""
    phase, events = build_teacher(tiny_settings(), processes=processes), []

    def exchange(state, bucket):
        events.append("exchange")
        return allreduce_hook(state, bucket)

    def loss(micro_batch):
        events.append("part")
        images = micro_batch.images
        return phase.learners[0](images, torch.zeros_like(images)), {"loss": torch.zeros(())}

    phase.learners[0].joined.register_comm_hook(None, exchange)
    take_turn(Turn(phase.learners[0], loss), own_parts(0, processes, each=3), 0)
    return events


class RankPhase(Phase):
    """A phase whose loss is its rank and whose average is `value`."""

    name, ema, drop_metrics = "ranks", None, ("skipped",)

    def __init__(self, rank, value=0.0, signal_at=None, broken=False):
        super().__init__([], 60, {})
        self.rank, self.signal_at, self.broken = rank, signal_at, broken
        self.ema = nn.Linear(1, 1)
        nn.init.constant_(self.ema.weight, value)
        nn.init.zeros_(self.ema.bias)

    def step(self, parts, step):
        if step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": torch.tensor(float(self.rank)), "skipped": torch.tensor(float(self.broken))}

    def pictures(self, count, side):
        return torch.zeros(len(self.nfe_rows) * count, 3, 4, 4)


def loop(folder, processes, **changes):
    """The loop with a `RankPhase`: (the steps at which it was saved, how it ended)."""
    saved = []
    options = dict(log_interval=4, save_interval=30, sample_interval=100, keep_checkpoints=9)
    try:
        train(
            RankPhase(processes.rank, **changes),
            job_in(folder, processes, **options),
            batch_of=lambda step: torch.zeros(2, 3, 4, 4),
            identity={},
            publish=lambda: saved.append(processes.rank),
        )
    except (Interrupted, RuntimeError, UserError) as error:
        return saved, f"{type(error).__name__}: {error}"
    return saved, ""


def conversation(folder, processes):
    """All that passes between processes on the host."""
    rank, order = processes.rank, folder / "order.txt"

    def slow_first():
        time.sleep(0.3 * processes.is_first)
        with open(order, "a") as file:
            file.write(str(rank))
        return rank

    def refuse():
        raise UserError(f"refused by {rank}")

    def end_of_time():
        raise Interrupted(TIME_IS_UP)

    said = {
        "first": processes.first(lambda: {"rank": rank}),
        "first then all": processes.first_then_all(slow_first),
        "mean": processes.mean([float(rank), 1.0, 3.0 * rank]) + processes.mean([]),
        "largest": processes.largest(7 - rank),
        "mean of tensor": processes.mean_of(torch.tensor([float(rank), 2.0])).tolist(),
    }
    done = []  # each item by one process, then all by all
    said["share out"] = processes.share_out(lambda item: done.append(item) or 2 * item, [1, 2, 3])
    said["own share"] = done[:-3]
    for ask in (processes.first, processes.first_then_all):
        with pytest.raises(UserError, match="^refused by 0$"):
            ask(refuse)
    with pytest.raises(UserError, match="^refused by 0$"):
        processes.share_out(lambda item: refuse(), [1, 2, 3])
    with pytest.raises(Interrupted) as stopped:  # the time of one of them is over
        processes.share_out(lambda item: end_of_time() if rank else item, [1, 2, 3])
    said["end of time"] = stopped.value.exit_code
    processes.agree_on(RankPhase(rank).ema, "equals")
    with pytest.raises(RuntimeError, match="differ in a pair"):
        processes.agree_on(RankPhase(rank, value=float(rank)).ema, "a pair")
    return said


def work(rank, port, folder):
    """One of the processes. All do the same in the same order, and keep what they found."""
    address = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(COUNT))
    agent = dict(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0")
    os.environ.update(address | agent, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    processes = from_environment()
    processes.join(CPU)
    found = {
        "steps": {name: steps_of(flags, processes) for name, flags in FLAGS.items()},
        "gradients": gradients_of_parts(processes),
        "exchanges": exchanges(processes),
        "said": conversation(folder, processes),
        "whole": loop(folder / "whole", processes),
        "stopped": loop(folder / "stopped", processes, signal_at=5 if rank else None),
        "broken": loop(folder / "broken", processes, broken=True),
        "mixed": loop(folder / "mixed", processes, value=0.001 * rank),
    }
    torch.save(found, folder / f"{rank}.pt")
    processes.leave()


@pytest.fixture(scope="module")
def together(one_thread, tmp_path_factory):
    """(folder, what each of the processes found)."""
    folder = tmp_path_factory.mktemp("together")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = dict(join=False, start_method=CONTEXT.get_start_method())
    jobs = mp.start_processes(work, (store.port, folder), COUNT, **started)
    deadline = time.monotonic() + 300
    while not jobs.join(timeout=1):
        if time.monotonic() > deadline:
            for process in jobs.processes:
                process.kill()
            pytest.fail("the processes wait for one another for ever")
    return folder, [torch.load(folder / f"{rank}.pt") for rank in range(COUNT)]


def leaves(tree, path=""):
    """{path: leaf} of nested dicts and sequences."""
    if not isinstance(tree, (dict, list, tuple)):
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {k: v for key, part in items for k, v in leaves(part, f"{path}/{key}").items()}


def assert_close(found, wanted, rtol=1e-5):
    """Equal but for rounding, relative to the largest number of a tensor."""
    found, wanted = leaves(found), leaves(wanted)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        value, other = (torch.as_tensor(x, dtype=torch.float64) for x in (value, found[path]))
        assert (value - other).abs().max() <= rtol * value.abs().max(), path


@pytest.mark.parametrize("name", FLAGS)
def test_processes_take_the_steps_of_one_process(together, name):
    first, second = (found["steps"][name] for found in together[1])
    alone = steps_of(FLAGS[name], ALONE)
    for found in (first, second):
        assert_close(found["gradients"], alone["gradients"])
        assert_close(found["state"], alone["state"])
    rows = zip(first["rows"], second["rows"], strict=True)
    means = [{key: (a[key] + b[key]) / 2 for key in a} for a, b in rows]
    assert_close(means, alone["rows"])
    same = zip(leaves(first["state"]).values(), leaves(second["state"]).values(), strict=True)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in same)


def test_each_process_has_images_and_draws_of_its_own(together):
    first, second = (found["steps"]["gan"]["rows"][0] for found in together[1])
    assert all(first[key] != second[key] for key in ("disc_loss", "logits_real", "adv_loss"))
    assert first["student_grad_norm"] == second["student_grad_norm"]


def test_parts_in_turn_and_at_once_have_one_gradient(together):
    alone = gradients_of_parts(ALONE)
    assert len(alone) == 4  # the fake score twice, the discriminator, the student
    for found in together[1]:
        assert_close(found["gradients"], alone, rtol=1e-4)


def test_gradients_are_exchanged_in_the_last_part_alone(together):
    for found in together[1]:
        events = found["exchanges"]
        assert events[:3] == ["part"] * 3 and set(events[3:]) == {"exchange"}


def test_processes_talk(together):
    folder, found = together
    for rank, said in enumerate(x["said"] for x in found):
        assert said == {
            "first": {"rank": 0},
            "first then all": rank,
            "mean": [0.5, 1.0, 1.5],
            "largest": 7,
            "mean of tensor": [0.5, 2.0],
            "share out": [2, 4, 6],
            "own share": [[1, 3], [2]][rank],
            "end of time": TIME_IS_UP,
        }
    assert (folder / "order.txt").read_text() == "01"


def test_the_first_writes_for_all(together):
    folder, found = together
    assert [x["whole"] for x in found] == [([0, 0], ""), ([], "")]
    rows = read_rows(folder / "whole" / "log.jsonl")
    assert rows[-1]["step"] == 60 and {row["loss"] for row in rows} == {0.5}


def test_a_signal_to_one_stops_all_at_the_same_step(together):
    folder, found = together
    assert [x["stopped"][0] for x in found] == [[0], []]
    for _, ending in (x["stopped"] for x in found):
        assert ending.startswith("Interrupted: stopped at step 6 of 60")
    assert [p.name for p in (folder / "stopped").glob("ranks/*")] == ["checkpoint_iter_6.pt"]


def test_all_give_up_a_diverged_run(together):
    for _, ending in (x["broken"] for x in together[1]):
        assert ": ranks: gradients were not finite for the last 50 updates up to step 50" in ending


def test_averages_that_differ_are_not_saved(together):
    folder, found = together
    for saved, ending in (x["mixed"] for x in found):
        assert not saved and "processes have come to differ in the ranks's average" in ending
    assert not list((folder / "mixed").glob("ranks/*"))
