"""The processes of one training job: torchrun starts them, DDP joins their gradients.

Without torchrun there is one process, and nothing here communicates.
"""

import os
import sys
import time
import warnings
from contextlib import nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fewstep.engine.stopping import TIME_IS_UP, Interrupted
from src.utils import UserError, file_error, reason_of

COMPILING, DECODING = timedelta(hours=1), timedelta(days=2)  # patience with other processes
SECONDS_TO_SPEAK = 10  # of the first process, which may still be importing torch


class Processes:
    """This process among `count`: `rank` 0 speaks, draws and writes; all of them train.

    What passes between them on the host goes through gloo, gradients through NCCL on GPUs.
    """

    def __init__(self, rank=0, count=1, local_rank=0):
        self.rank, self.count, self.local_rank = rank, count, local_rank
        self.host = None  # the group for what is not gradients

    @property
    def is_first(self):
        return self.rank == 0

    def join(self, device):
        """Meet the other processes."""
        if self.count == 1:
            return
        # Of 1x1 kernels, whose numbers lie alike under several names for their strides.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=COMPILING)
        # Here the others wait while the first decodes a data set.
        self.host = dist.new_group(backend="gloo", timeout=DECODING)

    def leave(self):
        if self.count > 1 and dist.is_initialized():
            # Gloo's threads let go of their last tensors under the interpreter's lock. Whoever ends
            # a group holds that lock and waits for those threads: too early, and it is for ever.
            time.sleep(0.5)
            self.host = None
            dist.destroy_process_group()

    def device_of(self, device):
        """The device of this process, given that of the whole job: a GPU each. Raises `UserError`
        where there is none left."""
        if device.type != "cuda":
            return device
        if self.count == 1:
            if device.index is not None:
                torch.cuda.set_device(device)  # what has no device of its own goes there too
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise UserError(
                f"--nproc_per_node: process {self.local_rank + 1} of this machine has no GPU; there"
                f" are {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def shared(self, module, device, some_unused=False):
        """`module`, or in a job of several processes its DDP: called with gradients, it makes the
        next backward pass leave the mean of all processes' gradients. some_unused: some parameters
        may have none."""
        if self.count == 1:
            return Alone(module)
        devices = [device.index] if device.type == "cuda" else None
        # Buffers follow from the weights or the seeds, which are the same everywhere.
        return DistributedDataParallel(
            module,
            device_ids=devices,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=some_unused,
        )

    def first(self, work):
        """The result of `work()` on the first process, everywhere. Its `UserError`, or a file that
        cannot be written, ends all."""
        if self.count == 1:
            return work()
        outcome = [None, None]
        if self.is_first:
            outcome = attempted(work)
        dist.broadcast_object_list(outcome, src=0, group=self.host)
        if outcome[1] is not None:
            raise UserError(outcome[1])
        return outcome[0]

    def let_first_speak(self):
        """Call this after a `UserError`, before it is said: torchrun ends all processes with the
        first that ends, so a mistake that all have seen is said by the first of them alone, and
        one that it has not seen a little later."""
        if not self.is_first:
            time.sleep(SECONDS_TO_SPEAK)

    def first_then_all(self, work):
        """The result of `work()` here, after the first process has done it: for work that leaves
        files behind which the others then find."""
        kept = []
        self.first(lambda: kept.append(work()))
        return kept[0] if kept else work()

    def share_out(self, work, items):
        """[work(item) of all items], after each process has done its share of them: for work that
        leaves files behind, which the others then find. A `UserError` of one of them, a file that
        cannot be written, or the end of its time ends all."""
        if self.count > 1:
            said, own, code = [None] * self.count, items[self.rank :: self.count], 0
            error = None
            try:
                _, error = attempted(lambda: [work(item) for item in own])
            except Interrupted as stopped:
                if stopped.exit_code != TIME_IS_UP:
                    raise  # a signal comes to all of them
                code = stopped.exit_code
            dist.all_gather_object(said, (error, code), group=self.host)
            if error := next(filter(None, (one for one, _ in said)), None):
                raise UserError(error)
            if code := max(code for _, code in said):
                raise Interrupted(code)
        return [work(item) for item in items]

    def mean(self, numbers):
        """Floats -> their means over all processes, a list."""
        if self.count == 1 or not numbers:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(values, group=self.host)
        return (values / self.count).tolist()

    def largest(self, number):
        """The largest of an integer over all processes."""
        if self.count == 1:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self.host)
        return int(value)

    def mean_of(self, tensor):
        """A tensor on the device -> its mean over all processes; waits for nobody on the host."""
        if self.count == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total / self.count

    def agree_on(self, module, name):
        """Raise `RuntimeError` unless all processes have the same values in `module`."""
        if self.count == 1:
            return
        with torch.no_grad():
            own = torch.stack([p.double().sum() for p in module.parameters()]).cpu()
        theirs = own.clone()
        dist.broadcast(theirs, src=0, group=self.host)
        if self.largest(int(not torch.equal(own, theirs))):
            raise RuntimeError(f"processes have come to differ in {name}; their results are mixed")


def attempted(work):
    """[the result of `work()`, None], or [None, the text of its `UserError` or of a file that
    cannot be written]: what other processes are told."""
    try:
        return [work(), None]
    except UserError as error:
        return [None, str(error)]
    except OSError as error:
        return [None, file_error(error)]


class Alone(nn.Module):
    """A module of one process with DDP's face."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module(*inputs)

    def no_sync(self):
        return nullcontext()


ALONE = Processes()


def from_environment():
    """The `Processes` that torchrun's environment variables describe; one where there are none.
    Raises `UserError` where some are there and others are not."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    values = [os.environ.get(name, "") for name in names]
    if "MASTER_ADDR" not in os.environ or not all(value.isdecimal() for value in values):
        raise UserError(
            "WORLD_SIZE is set, but not all that torchrun sets with it; start with torchrun, or"
            " unset it to train with one process"
        )
    rank, count, local = map(int, values)
    return Processes(rank, count, local)


def end_lost(processes, error):
    """The exit code after a `RuntimeError` of a job whose processes have lost one another, which is
    said in one line; any other error is raised again."""
    text = str(error).lower()
    lost = any(sign in text for sign in ("connection closed", "connection reset", "gloo", "nccl"))
    if processes.count == 1 or not lost:
        raise error
    print(
        f"error: process {processes.rank} of {processes.count} has lost another one, which was"
        " killed or has failed (its own message, if any, is above); run the same command again to"
        f" go on from the newest checkpoint ({reason_of(error)})",
        file=sys.stderr,
    )
    return 1


def hush(processes):
    """Let only the first process speak on stdout and draw bars."""
    if not processes.is_first:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
