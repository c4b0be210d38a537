"""The programs as tests start them: in this process, watched, in a folder of their own."""

from contextlib import ExitStack
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import measure_fid
import sampling
import train
from fewstep.handin import submit as submit
from fewstep.runs.parser import build_parser as build_train_parser
from fewstep.scores import ladder
from fewstep.studies.bench import main as bench
from fewstep.studies.compare import main as compare
from fewstep.studies.evaluate import main as evaluate
from fewstep.studies.evaluate import tune
from tests.commands import run_here


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
OPENING = [
    "fewstep.images.cache._build",
    "fewstep.images.opening.download_simpsons",
    "PIL.Image.open",
]
FETCHING = ["torch.hub.urlopen"]
TRAIN = "--preset tiny --data synthetic --synthetic_count 64 --device cpu"
PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "train.py",
            train.main,
            build_train_parser,
            TRAIN,
            ["train.begin_run", "train.run_phase", "train.describe"] + OPENING,
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
            "evaluate",
            evaluate.main,
            evaluate.build_parser,
            "--ckpt_path model/best_model.pt --device cpu --features random --data synthetic",
            [
                "fewstep.studies.evaluate.main.score_series",
                "fewstep.studies.evaluate.subjects.Comparison",
            ]
            + OPENING
            + FETCHING,
        ),
        Program(
            "tune",
            tune.main,
            tune.build_parser,
            "--ckpt_path model/best_model.pt --device cpu --features random --data synthetic",
            ["fewstep.studies.evaluate.subjects.Comparison", *OPENING, *FETCHING],
            least=20,
        ),
        Program(
            "compare",
            compare.main,
            compare.build_parser,
            "--grid disc=patch,resnet --base preset=tiny data=synthetic synthetic_count=64",
            [
                "fewstep.studies.compare.main.Laboratory.prepare",
                "fewstep.studies.compare.main.Laboratory.estimate",
                *OPENING,
            ],
        ),
        Program(
            "submit",
            submit.main,
            submit.build_parser,
            "--ckpt_path model/best_model.pt",
            [
                "fewstep.handin.submit.write_archive",
                "fewstep.handin.submit.inspect",
                "fewstep.handin.writeup.document.make_writeup",
            ],
            accepted=("author",),
        ),
        Program(
            "ladder",
            ladder.main,
            ladder.build_parser,
            "--data_root pictures",
            ["fewstep.scores.ladder.measure_ladder", "fewstep.scores.ladder.load_images"],
        ),
        *(
            Program(
                f"bench {name}",
                bench.main,
                partial(bench.build_parser, name),
                f"{name} --device cpu",
                [f"fewstep.studies.bench.{name}.{work}"],
                least=20,
            )
            for name, work in (
                ("data", "write_faces"),
                ("train", "write_faces"),
                ("sample", "create_custom_model"),
            )
        ),
    )
}


def start(program, arguments):
    """(exit code, stdout, stderr) of the program with these arguments; raises `Reached` where it
    begins its work."""
    with ExitStack() as watched:
        for name in program.work:
            watched.enter_context(patch(name, side_effect=Reached(name)))
        return run_here(program.main, program.name, *arguments)
