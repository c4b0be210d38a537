"""The programs as tests start them: in this process, watched, in a folder of their own."""

import io
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

import ablate
import evaluate
import measure_fid
import sampling
import submit
import train
from benchmarks import bench_data, bench_sample, bench_scaling, bench_train
from metrics import ladder
from src.utils import run_command
from training.command_line import build_parser as build_train_parser


class Reached(BaseException):
    """Work has begun on a command line that should have been refused. No program catches it."""


class Program(NamedTuple):
    """main, build_parser: of the program. base: arguments that, with nothing added, would begin the
    work. work: what begins it, names of functions. accepted: flags that take any text. least: how
    many command lines are tried."""

    name: str
    main: callable
    build_parser: callable
    base: str
    work: list
    accepted: tuple = ()
    least: int = 50


# Reading or drawing an image set, fetching anything.
OPENING = ["imagesets.cache._build", "imagesets.opening.download_simpsons", "PIL.Image.open"]
FETCHING = ["urllib.request.urlopen"]
TRAIN = "--preset tiny --data synthetic --synthetic_count 64 --device cpu"
PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "train.py",
            train.main,
            build_train_parser,
            TRAIN,
            ["train.begin_run", "train.run_teacher", "train.run_student", "train.describe"]
            + OPENING,
            least=300,
        ),
        Program(
            "sampling.py",
            sampling.main,
            sampling.build_parser,
            "--ckpt_path model/best_model.pt --device cpu",
            ["sampling.sample_to_folder"],
        ),
        Program(
            "measure_fid.py",
            measure_fid.main,
            measure_fid.build_parser,
            "--generated_dir pictures --reference_dir pictures --device cpu --features random",
            ["measure_fid.distance", "PIL.Image.Image.save", *FETCHING],
            accepted=("data_root",),  # the reference is there
        ),
        Program(
            "evaluate.py",
            evaluate.main,
            evaluate.build_parser,
            "--ckpt_path model/best_model.pt --device cpu --features random --data synthetic",
            ["evaluate.score_series", "evaluate.tune_student", "evaluate.Comparison"]
            + OPENING
            + FETCHING,
        ),
        Program(
            "ablate.py",
            ablate.main,
            ablate.build_parser,
            "--grid disc=patch,resnet --base preset=tiny data=synthetic synthetic_count=64",
            ["ablate.Laboratory.prepare", "ablate.Laboratory.estimate", *OPENING],
        ),
        Program(
            "submit.py",
            submit.main,
            submit.build_parser,
            "--ckpt_path model/best_model.pt",
            ["submit.write_archive", "submit.inspect", "writeup.document.make_writeup"],
            accepted=("author",),
        ),
        Program(
            "metrics.ladder",
            ladder.main,
            ladder.build_parser,
            "--data_root pictures",
            ["metrics.ladder.measure_ladder", "metrics.ladder.load_images"],
        ),
        Program(
            "benchmarks.bench_data",
            bench_data.main,
            bench_data.build_parser,
            "--device cpu",
            ["benchmarks.bench_data.compare", "benchmarks.bench_data.measure_growth"],
            least=20,
        ),
        Program(
            "benchmarks.bench_train",
            bench_train.main,
            bench_train.build_parser,
            "--device cpu",
            ["benchmarks.bench_train.Bench"],
            least=20,
        ),
        Program(
            "benchmarks.bench_sample",
            bench_sample.main,
            bench_sample.build_parser,
            "--device cpu",
            ["benchmarks.bench_sample.random_model"],
            least=20,
        ),
        Program(
            "benchmarks.bench_scaling",
            bench_scaling.main,
            bench_scaling.build_parser,
            "--device cpu",
            ["benchmarks.bench_scaling.teacher_steps"],
            least=20,
        ),
    )
}


def start(program, arguments):
    """(exit code, stdout, stderr) of the program with these arguments; raises `Reached` where it
    begins its work."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    watched = [patch(name, side_effect=Reached(name)) for name in program.work]
    with ExitStack() as held:
        for one in (patch.object(sys, "argv", [program.name, *arguments]), *watched):
            held.enter_context(one)
        held.enter_context(redirect_stdout(streams[0]))
        held.enter_context(redirect_stderr(streams[1]))
        try:
            run_command(program.main)
        except SystemExit as ended:
            code = ended.code
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return code, *texts
