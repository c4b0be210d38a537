"""`torchrun train.py`: two processes leave what one leaves that takes the same parts in turn, say
things once, and go on from whatever a kill leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train
from fewstep.engine.processes import ALONE, Processes, end_lost, from_environment
from src.utils import UserError
from tests import forks
from tests.engine.test_processes import assert_close
from tests.forks import CONTEXT, begin_in, train_drawing_little

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = "--standalone --nproc_per_node 2".split()
FLAGS = (
    "--preset tiny --data synthetic --synthetic_count 32 --batch_size 4 --device cpu"
    " --num_iterations 8 --start_share 0.5 --student_iterations 7 --warmup 1 --disc_warmup 1"
    " --disc_channels 8"
    " --log_interval 2 --save_interval 2 --sample_interval 4 --teacher_steps 2 --best_images 8"
    " --distill dmd --disc resnet --disc_heads 16 --student_dropout 0.1"
    " --augment color --augment_p 0.2 --ada_target 0.6 --ada_images 100 --self_input_share 1"
).split()


def arguments(folder, *flags):
    paths = ["--save_dir", folder / "run", "--export_dir", folder / "export"]
    return [str(word) for word in (*FLAGS, *paths, "--cache_dir", folder / "cache", *flags)]


def torchrun(words, output, errors):
    """In a process of its own: torchrun, whose processes begin with all that it has imported."""
    begin_in(ROOT, output, errors)
    from torch.distributed import run

    run.main([*TORCHRUN, "--start_method", "fork", "--run_path", forks.__file__, *words])


def start(folder):
    """Begin a job of two processes."""
    output, errors = said(folder)
    process = CONTEXT.Process(target=torchrun, args=(arguments(folder), output, errors))
    process.start()
    return process


def said(folder):
    """The files of what a job prints, beside its folder."""
    return folder.with_suffix(".out"), folder.with_suffix(".err")


def ended(process, folder):
    """(exit code, stdout, lines of stderr) of a job that ends on its own."""
    process.join(300)
    process.kill()
    out, err = (path.read_text() for path in said(folder))
    return process.exitcode, out, err.splitlines()


def finish_alone(folder):
    """stdout of a run of one process that takes the parts in turn."""
    output, errors = said(folder)
    words = ["train.py", *arguments(folder, "--micro_batch", 2)]
    process = CONTEXT.Process(target=train_alone, args=(words, output, errors))
    process.start()
    code, out, err = ended(process, folder)
    assert code == 0, err
    return out


def train_alone(words, output, errors):
    begin_in(ROOT, output, errors)
    sys.argv = words
    train_drawing_little()


def workers(job):
    """Process ids of the processes that torchrun has started, in the order of their ranks."""
    children = Path(f"/proc/{job.pid}/task").glob("*/children")
    return sorted(int(child) for tasks in children for child in tasks.read_text().split())


def run_up_to(folder, checkpoint, stop):
    """Start the job of two processes, `stop(job)` it when `checkpoint` is there, see it end."""
    job, path = start(folder), folder / "run" / checkpoint
    while not path.exists() and job.is_alive():
        time.sleep(0.005)
    stop(job)
    return ended(job, folder)


@pytest.fixture(scope="module")
def alone(one_thread, tmp_path_factory):
    """The folder of an undisturbed run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    finish_alone(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(folder, stdout) of an undisturbed run of two processes."""
    folder = tmp_path_factory.mktemp("pair")
    code, out, err = ended(start(folder), folder)
    assert code == 0, err
    return folder, out


@pytest.fixture(scope="module")
def story(one_thread, tmp_path_factory):
    """A run of two processes that is stopped three times, (exit code, stdout, lines of stderr,
    steps of the phase's checkpoints) each; then finished by one process, stdout last."""
    folder, told = tmp_path_factory.mktemp("story"), []
    for checkpoint, stop in [
        ("teacher/checkpoint_iter_2.pt", lambda job: os.kill(workers(job)[0], signal.SIGKILL)),
        ("teacher/checkpoint_iter_4.pt", lambda job: job.terminate()),
        ("student/checkpoint_iter_2.pt", lambda job: os.kill(workers(job)[1], signal.SIGKILL)),
    ]:
        ending = run_up_to(folder, checkpoint, stop)
        told.append((*ending, checkpoints(folder, checkpoint.partition("/")[0])))
    return folder, [*told, finish_alone(folder)]


def checkpoints(folder, phase):
    """{step: content}; every file that is there can be read."""
    paths = (folder / "run" / phase).glob("checkpoint_iter_*.pt")
    return {int(p.stem.rpartition("_")[2]): torch.load(p, weights_only=True) for p in paths}


def files(folder):
    # A kill may leave a temporary file, whose name begins with a dot.
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(folder)) for path in paths}


def rows(folder):
    """The log without times, and the phases apart from the numbers."""
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    phases = [row.pop("phase") for row in log]
    for row in log:
        del row["seconds"], row["images_per_second"]
    return phases, log


def assert_same_results(folder, other):
    assert files(folder) == files(other)
    for name in ("run/teacher/model.pt", "run/final_model.pt", "export/best_model.pt"):
        first, second = (torch.load(f / name, weights_only=True) for f in (folder, other))
        assert_close(first, second)
    for phase in ("teacher", "student"):
        first, second = (checkpoints(f, phase) for f in (folder, other))
        assert_close(
            {step: content["phase"] for step, content in first.items()},
            {step: content["phase"] for step, content in second.items()},
        )
    (phases, first), (other_phases, second) = rows(folder), rows(other)
    assert phases == other_phases
    assert_close(first, second, rtol=1e-4)


def test_two_processes_leave_what_one_leaves(alone, pair):
    folder, out = pair
    assert_same_results(folder, alone)
    first, second = (
        json.loads((f / "run" / "training_config.json").read_text()) for f in (folder, alone)
    )
    assert (first["processes"], second["processes"]) == (2, 1)
    assert first["identities"] == second["identities"] and first["finished"]
    assert out.count("training time in all") == 1 and out.count("synthetic faces") == 1
    steered = [row["ada_p"] for row in rows(alone)[1] if "ada_p" in row]
    assert len(set(steered)) > 1  # what is steered by all processes' images was at work


def test_a_stopped_run_goes_on_with_another_number_of_processes(alone, story):
    folder, (*_, last) = story
    assert "going on with the student at step 2" in last
    assert_same_results(folder, alone)


@pytest.mark.parametrize(("place", "survivor"), [(0, 1), (2, 0)])
def test_a_killed_process_ends_the_job_with_one_line(story, place, survivor):
    code, _, err, kept = story[1][place]
    assert code != 0 and 2 in kept
    said = [line for line in err if "error: " in line]
    # Perhaps behind a progress bar, which ends no line.
    assert len(said) == 1 and f"error: process {survivor} of 2 has lost another" in said[0]
    assert "run the same command again" in said[0]
    assert not any('train.py", line' in line for line in err), "a traceback of ours"
    assert not any("forcefully" in line for line in err), "it ends without being killed"


def test_sigterm_saves_and_is_answered_once(story):
    code, out, err, kept = story[1][1]
    assert code != 0 and "going on with the teacher at step 2" in out
    said = [line for line in err if "stopped at step" in line]
    assert said == [f"stopped at step {max(kept)} of 8 (teacher); run it again to go on"]
    assert not any("error: " in line or 'train.py", line' in line for line in err)
    assert not any("forcefully" in line for line in err)
    _, out, _, _ = story[1][2]
    assert f"going on with the teacher at step {max(kept)}" in out


@pytest.mark.parametrize(
    ("flags", "named", "late"),
    [
        (["--batch_size", "7"], "--batch_size 7", 0),
        (["--phase", "add"], "--teacher_ckpt", 1),  # found when they have met
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(tmp_path, flags, named, late):
    """Whichever process comes late; here the command itself, without a server."""
    slow = f"import os, time; time.sleep(3 * (os.environ.get('RANK') == '{late}'))"
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(slow)
    command = [sys.executable, "-m", "torch.distributed.run", *TORCHRUN, ROOT / "train.py"]
    job = subprocess.run(
        [*command, *arguments(tmp_path / "job", *flags)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "path")},
    )
    err = job.stderr.splitlines()
    said = [line for line in err if line.startswith("error: ")]
    assert job.returncode != 0 and len(said) == 1 and named in said[0]
    notes = job.stdout.splitlines()  # on flags of the teacher's, where it is not trained
    assert len(notes) == flags.count("--phase")
    assert all(line.startswith("no effect here: --num_iterations") for line in notes)
    assert not any('train.py", line' in line for line in err)
    assert not (tmp_path / "job").exists()


def test_a_process_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(train, "from_environment", lambda: Processes(1, 2, 1))
    monkeypatch.setattr(train, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(train, "hush", lambda processes: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(sys, "argv", ["train.py", "--data", "synthetic"])
    with pytest.raises(UserError, match="process 2 of this machine has no GPU; there are 1"):
        train.main()


def test_one_process_talks_to_nobody():
    assert ALONE.first(lambda: 3) == ALONE.first_then_all(lambda: 3) == ALONE.largest(3) == 3
    assert ALONE.mean([1.0]) == [1.0] and ALONE.mean_of("anything") == "anything"
    ALONE.join(torch.device("cpu"))
    ALONE.agree_on(None, "nothing")
    ALONE.leave()


def test_the_environment_says_who_is_there(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert from_environment() is ALONE
    there = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    processes = from_environment()
    assert (processes.rank, processes.count, processes.local_rank) == (5, 8, 1)
    cpu = torch.device("cpu")
    assert not processes.is_first and processes.device_of(cpu) == cpu


def test_a_lost_process_is_one_line_and_other_errors_stay_errors(capsys):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    assert end_lost(Processes(1, 3), lost) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: process 1 of 3 has lost another one") and "run the same" in line
    for processes, error in ((ALONE, lost), (Processes(1, 3), RuntimeError("a shape is wrong"))):
        with pytest.raises(RuntimeError, match=str(error)[-10:]):
            end_lost(processes, error)
