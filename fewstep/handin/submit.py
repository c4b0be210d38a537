"""Build the hand-in archive, and check it as the graders would.

    python -m fewstep submit --official DIR --output submission.zip

DIR is a checkout of the challenge's repository: the files it provides are taken from there, and its
sampling.py is run. The archive is written only when every check passes (exit code 0; else 1).
`--run_dir results/NAME --writeup` also makes the write-up of that run, RUN_DIR/writeup.pdf.
"""

import os
import tempfile
from functools import partial
from pathlib import Path

from fewstep.handin.archive.archive import copy_part, unpack, write_archive
from fewstep.handin.archive.checks import (
    check_checkpoint,
    check_config,
    check_files,
    check_network,
    check_provided,
    check_size,
    check_weights,
)
from fewstep.handin.archive.contents import CHECKPOINT, WRITEUP, collect, sampler_names
from fewstep.handin.archive.trial import (
    FIRST,
    check_model,
    check_sampler,
    check_seeds,
    run_graders,
    try_official,
)
from src.arguments import (
    DEFAULT,
    InRange,
    check_input_file,
    check_input_folder,
    check_output_file,
    line,
    line_or_empty,
    whole_number,
)
from src.feedback import Progress
from src.formatting import size_text
from src.utils import CommandParser, UserError, file_digest, move_into_place, pick_device

ROOT = Path(__file__).resolve().parents[2]


def build_parser():
    parser = CommandParser(prog="-m fewstep submit", description=__doc__)
    add = partial(parser.add_argument, type=line)
    add("--run_dir", help="folder of a run of train.py: hand in its student")
    text = "checkpoint (default: RUN_DIR/final_model.pt, else checkpoints/best_model.pt)"
    add("--ckpt_path", help=text)
    add("--config_path", help="model settings (default: model_config.json beside the checkpoint)")
    add("--official", help="checkout of the challenge; without it our files go in")
    parser.add_argument(
        "--writeup", action="store_true", help="make the write-up from the run's records and add it"
    )
    add("--teacher_dir", help="folder of the run that trained the teacher, if it was moved")
    parser.add_argument(
        "--author", type=line_or_empty, default="", help="the write-up's author, a line of text"
    )
    add("--writeup_pdf", help="PDF of your own that is added as writeup.pdf")
    add("--output", default="submission.zip", help=f"archive to write ({DEFAULT})")
    counts = dict(type=whole_number, action=InRange, low=2, high=10_000)  # graders' fails on one
    parser.add_argument("--num_samples", **counts, default=4, help=f"images of a trial ({DEFAULT})")
    add("--device", default="cpu", help=f"cuda, cuda:N or cpu ({DEFAULT})")
    return parser


def parse_arguments(argv=None):
    """The command line, checked as far as that is possible without reading a checkpoint."""
    args = build_parser().parse_args(argv)
    if args.writeup and not args.run_dir:
        raise UserError("--writeup: name the run whose records it is made from with --run_dir DIR")
    if args.writeup and args.writeup_pdf:
        raise UserError("--writeup and --writeup_pdf: give one of them")
    if (args.author or args.teacher_dir) and not args.writeup:
        raise UserError("--author and --teacher_dir are for the write-up: give --writeup too")
    if args.run_dir and (args.ckpt_path or args.config_path):
        raise UserError("--run_dir names the student; leave out --ckpt_path and --config_path")
    student = f"{args.run_dir}/final_model.pt" if args.run_dir else "checkpoints/best_model.pt"
    args.ckpt_path = Path(args.ckpt_path or student)
    args.config_path = Path(args.config_path or args.ckpt_path.with_name("model_config.json"))
    check_output_file("--output", args.output)
    for flag in ("run_dir", "official", "teacher_dir"):
        if getattr(args, flag):
            check_input_folder(f"--{flag}", getattr(args, flag))
    check_input_file("--ckpt_path", args.ckpt_path, "train first, or name one")
    check_input_file("--config_path", args.config_path)
    for source in (args.ckpt_path, args.config_path, args.writeup_pdf):
        if source and Path(source).resolve() == Path(args.output).resolve():
            raise UserError(f"--output {args.output}: is what is handed in; name another file")
    if args.writeup_pdf:
        check_input_file("--writeup_pdf", args.writeup_pdf)
        if not Path(args.writeup_pdf).read_bytes().startswith(b"%PDF-"):
            raise UserError(f"--writeup_pdf {args.writeup_pdf}: not a PDF; name the write-up")
    return args


def inspect(archive, work, official, num_samples, device):
    """Yield the findings on an archive. `work`: an empty folder for what that takes."""
    folder, bare = work / "submission", work / "graders"
    with Progress("unpacking and reading"):
        names = unpack(archive, folder)
        findings = [check_files(folder, names)]
        findings.append(check_size(archive.stat().st_size, (folder / CHECKPOINT).stat().st_size))
        findings.append(check_provided(folder, official))
        finding, state = check_checkpoint(folder)
    yield from [*findings, finding]
    finding, config = check_config(folder)
    yield finding

    copy_part(folder, sampler_names(folder), bare)
    print(f"sampling as the graders do: {num_samples} images at NFE 1, 2, 4 ...", flush=True)
    process, report = run_graders(bare, work, num_samples, device, [FIRST])
    yield check_model(process, report, bare)
    if report is None:
        return
    if state is not None:
        yield check_weights(state, report["model"])
        condition = bool(config.get("use_additional_condition", False))
        yield check_network(state, report["full"], condition)
    yield from check_sampler(process, report, work, num_samples)
    if not process.returncode:
        yield from check_seeds(bare, work, num_samples, device)
    if official:
        yield try_official(bare, work, num_samples, device)


def add_writeup(files, args):
    """Add the write-up to `files`, made anew where that was asked for."""
    if args.writeup:
        # matplotlib, which the rest can do without
        from fewstep.handin.writeup.document import make_writeup

        args.writeup_pdf = Path(args.run_dir) / "writeup.pdf"
        with Progress("making the write-up"):
            make_writeup(args.run_dir, args.writeup_pdf, args.author, args.teacher_dir)
        unsigned = "" if args.author else "; it names no author (--author NAME)"
        text = f"write-up: {args.writeup_pdf}, two pages and one of references{unsigned}"
        print(text, flush=True)
    if args.writeup_pdf:
        files[WRITEUP] = Path(args.writeup_pdf)


def pack(files, archive, output):
    """Write the archive of `files`. Raises `UserError`, naming `output`, when it cannot."""
    size = sum(path.stat().st_size for path in files.values())
    print(f"packing {len(files)} files, {size_text(size, 'MB')} ...", flush=True)
    try:
        with Progress("writing the archive"):
            write_archive(files, archive)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error})") from error


def main(argv=None, root=ROOT):
    args = parse_arguments(argv)
    device, output = pick_device(args.device), Path(args.output)
    files = collect(root, args.ckpt_path, args.config_path, args.official)
    add_writeup(files, args)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output, so that the archive that was checked is moved there, not copied.
    with tempfile.TemporaryDirectory(prefix=".submit.", dir=output.parent) as work:
        work = Path(work).resolve()
        archive, passed = work / "submission.zip", []
        pack(files, archive, output)
        for finding in inspect(archive, work, args.official, args.num_samples, device):
            print(finding, flush=True)
            passed.append(finding.ok)
        if not all(passed):
            stale = "; what is there is of an earlier run" if output.exists() else ""
            failed = f"{passed.count(False)} of {len(passed)} checks failed"
            print(f"nothing written to {output}: {failed}{stale}")
            return 1
        with Progress("waiting for the disk"), open(archive, "rb+") as file:
            os.fsync(file.fileno())
        move_into_place(archive, output)
    size = size_text(output.stat().st_size, "MB")
    print(f"written: {output}, {size}, sha256 {file_digest(output).hex()}")
    return 0
