"""A static page that draws images with a student, in the browser (docs/page.md).

    python -m fewstep export --page results/page
    python -m http.server --directory results/page

The network is written as ONNX and compared with PyTorch; onnxruntime-web, which runs it, comes from
npm. Nothing is fetched when the page is looked at.
"""

import math
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from fewstep.handin.page.agreement import LEAST_SHARE, references, shares_within
from fewstep.handin.page.onnx_model import DTYPES, PURPOSE, export_model, with_weights
from fewstep.handin.page.plan import NFE_LIST, input_names, is_student, plan_of
from fewstep.handin.page.runtime import take_runtime
from fewstep.runs.loading import load
from fewstep.studies.evaluate.report import BASE_STYLE
from src.arguments import check_input_folder, check_output_folder, line
from src.errors import package_for
from src.feedback import Progress
from src.formatting import size_text
from src.samplers import IMAGE_SHAPE
from src.utils import CommandParser, UserError, file_digest, move_into_place, read_json, write_json

WEB = Path(__file__).with_name("web")
MODEL, ABOUT, RUNTIME = "model.onnx", "model.json", "runtime"
MADE_BY = "fewstep export --page"  # in `ABOUT`, by which a page of ours is known


def build_parser():
    parser = CommandParser(prog="-m fewstep export", description=__doc__)
    add = partial(parser.add_argument, type=line)
    add("--page", required=True, metavar="DIR", help="folder for the page; a page there is renewed")
    text = "a student, a run's folder, or a published one (default: %(default)s)"
    add("--ckpt_path", default="checkpoints/best_model.pt", help=text)
    add("--runtime_dir", metavar="DIR", help="folder with onnxruntime-web; else npm fetches it")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    target = Path(args.page)
    check_target(target)
    if args.runtime_dir:
        check_input_folder("--runtime_dir", args.runtime_dir)
    for package in ("onnx", "onnxruntime"):
        package_for(PURPOSE, package)
    generator = load(args.ckpt_path, "cpu")
    if not is_student(generator.model):
        raise UserError(f"{generator.path}: a teacher, which needs many steps; name a student")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".page.", dir=target.parent) as work:
        lines = assemble(generator, Path(work) / "page", args.runtime_dir)
        publish(Path(work) / "page", target)
    for text in lines:
        print(text)
    print(f"{target}: python -m http.server --directory {target} 8000 serves it")
    return 0


def assemble(generator, folder, runtime_dir):
    """Write the whole page to `folder`, which is made; returns lines on its sizes."""
    shutil.copytree(WEB, folder)
    shutil.copyfile(BASE_STYLE, folder / BASE_STYLE.name)
    (folder / RUNTIME).mkdir()
    with Progress("fetching onnxruntime-web"):
        take_runtime(folder / RUNTIME, runtime_dir)
    dtype, shares = write_model(generator, folder / MODEL)
    write_json(folder / ABOUT, about(generator, folder / MODEL, dtype, shares))
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    agreement = ", ".join(f"{percent(share)} at NFE {nfe}" for nfe, share in shares.items())
    return [
        f"{dtype} weights, {size_text(sizes[MODEL], 'MB')}; the whole page,"
        f" {size_text(sum(sizes.values()), 'MB')}",
        f"values within one grey level of PyTorch: {agreement}",
    ]


def check_target(target):
    """Raise `UserError` unless `target` may become a page: it is not there, empty, or one."""
    check_output_folder("--page", target)
    if target.is_dir() and any(target.iterdir()) and not is_page(target):
        raise UserError(f"--page {target}: has files, but no page of ours; name an empty folder")


def is_page(folder):
    """Whether this command has made the page in `folder`."""
    try:
        return read_json(folder / ABOUT).get("made_by") == MADE_BY
    except UserError:  # not there, or another's
        return False


def write_model(generator, path):
    """Write the smallest ONNX file that agrees with PyTorch; returns (type of its weights, {NFE:
    share of values within a grey level}). Raises `UserError` where none does."""
    with Progress("drawing images to compare with"):
        expected = references(generator.model)
    with Progress("writing the network as ONNX"):
        exported = export_model(generator.model)
    for dtype in DTYPES:
        content = with_weights(exported, dtype).SerializeToString()
        with Progress(f"comparing with PyTorch, {dtype} weights"):
            shares = shares_within(content, generator.model, expected)
        if min(shares.values()) >= LEAST_SHARE:
            path.write_bytes(content)
            return dtype, shares
    nfe = min(shares, key=shares.get)
    raise UserError(
        f"{generator.path}: as ONNX it differs from PyTorch: {percent(shares[nfe])} of values at"
        f" NFE {nfe} lie within a grey level, {percent(LEAST_SHARE)} are needed"
    )


def percent(share):
    """`99.98 %`, rounded down: only what is whole is 100 %."""
    return f"{math.floor(1e4 * share) / 100:.2f} %"


def about(generator, path, dtype, shares):
    """What the page reads about its network, `ABOUT`."""
    model = generator.model
    return {
        "made_by": MADE_BY,
        "network": generator.config["network"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights": dtype,
        "bytes": path.stat().st_size,
        "sha256": file_digest(path).hex(),
        "shape": list(IMAGE_SHAPE),
        "inputs": input_names(model),
        "noise_offset": getattr(model.scheduler, "noise_offset", 0.0),
        "plans": {str(nfe): plan_of(model, nfe).as_dict() for nfe in NFE_LIST},
        "agreement": {str(nfe): share for nfe, share in shares.items()},
    }


def publish(work, target):
    """Move the page in `work` to `target`: as a whole, or file by file over the page that is there,
    whose other files stay. By the first one a page that was cut off is known and can be renewed."""
    if not target.exists():
        os.rename(work, target)
        return
    files = [path for path in work.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name != ABOUT):
        place = target / path.relative_to(work)
        place.parent.mkdir(exist_ok=True)
        move_into_place(path, place)
