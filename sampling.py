"""Generate images from a checkpoint.

    python sampling.py --ckpt_path checkpoints/best_model.pt --save_dir samples --nfe_list 1 2 4

For each number of network evaluations K the images go to SAVE_DIR/nfe=K/0000.png, ... and the first
64 of them to SAVE_DIR/sheet_nfe=K.png.
"""

import re
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from custom_model import create_custom_model
from src.arguments import (
    DEFAULT,
    LARGEST_BATCH,
    MOST_EVALUATIONS,
    MOST_IMAGES,
    InRange,
    check_input_file,
    check_output_folder,
    check_place,
    line,
    whole_number,
)
from src.feedback import Progress
from src.listing import named_like_images
from src.published import is_published, read_published
from src.samplers import image_batches, untrained_note
from src.sheets import numbered, picture_sheet
from src.utils import (
    CommandParser,
    UserError,
    checkpoint_in,
    load_model,
    pick_device,
    run_command,
    save_picture,
    seed_everything,
)

SHEET_IMAGES, SHEET_COLUMNS = 64, 8
# A picture of ours, or the part of one that a killed run left behind.
OUR_NAME = re.compile(r"\d{4,}\.png|\.\d{4,}\.\d+\.tmp\.png")


def foreign_images(folder):
    """Images in `folder` that this program did not name; a score would count them as well."""
    if not folder.is_dir():
        return []
    return [folder / name for name in named_like_images(folder)[0] if not OUR_NAME.fullmatch(name)]


def remove_old_images(folder):
    """Remove an earlier run's pictures from `folder`, so that no score ever mixes two runs."""
    old = [file for file in folder.glob("*") if OUR_NAME.fullmatch(file.name)]
    for file in old:
        file.unlink()
    if old:
        print(f"{folder}: removed {len(old)} images of an earlier run")


def sample_to_folder(model, nfe, save_dir, num_samples, batch_size, per_image_seed=None):
    """Write the images of one NFE and their sheet; returns the seconds spent generating."""
    folder = save_dir / f"nfe={nfe}"
    folder.mkdir(parents=True, exist_ok=True)
    remove_old_images(folder)
    seconds, index, first = 0.0, 0, []
    batches = image_batches(model, nfe, num_samples, batch_size, per_image_seed)
    with Progress(f"nfe={nfe}", num_samples, stays=True) as report:
        while True:
            begin = time.perf_counter()
            pixels = next(batches, None)
            seconds += time.perf_counter() - begin
            if pixels is None:
                break
            if index < SHEET_IMAGES:
                first.append(pixels[: SHEET_IMAGES - index])
            for pixel in pixels:
                save_picture(Image.fromarray(pixel), folder / f"{index:04d}.png")
                index += 1
            report.update(len(pixels))
    # Not inside the folder: a score would count it as one of the images.
    labels = numbered(f"NFE {nfe}", min(num_samples, SHEET_IMAGES), SHEET_COLUMNS)
    sheet = picture_sheet(np.concatenate(first), SHEET_COLUMNS, labels=labels)
    save_picture(sheet, save_dir / f"sheet_nfe={nfe}.png")
    return seconds


def build_parser():
    parser = CommandParser(description=__doc__)
    add = partial(parser.add_argument, type=line)
    text = f"checkpoint, or a folder of a run or of published weights ({DEFAULT})"
    add("--ckpt_path", default="./checkpoints/best_model.pt", help=text)
    add("--config_path", help="model settings (default: model_config.json beside the checkpoint)")
    add("--save_dir", default="./samples", help=f"folder for the images ({DEFAULT})")
    add("--device", default="cuda", help=f"cuda, cuda:N or cpu ({DEFAULT})")
    add = partial(parser.add_argument, type=whole_number, action=InRange)
    text = f"images generated at once ({DEFAULT})"
    add("--batch_size", default=32, low=1, high=LARGEST_BATCH, help=text)
    text = f"images of each NFE ({DEFAULT})"
    add("--num_samples", default=1000, low=1, high=MOST_IMAGES, help=text)
    add(
        "--nfe_list",
        nargs="+",
        default=[1, 2, 4],
        low=1,
        high=MOST_EVALUATIONS,
        help="network evaluations (NFE) per image (default: 1 2 4)",
    )
    add("--seed", default=42, low=-(2**63), high=2**63 - 1, help=f"seed of the noise ({DEFAULT})")
    parser.add_argument(
        "--batch_independent",
        action="store_true",
        help="an image depends only on the seed and its index, not on --batch_size",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="fused attention; on a GPU also bf16, channels-last and compilation (a --batch_size"
        " that divides --num_samples is compiled once)",
    )
    return parser


def parse_arguments(argv=None):
    """The command line, checked as far as that is possible without loading the model."""
    args = build_parser().parse_args(argv)
    check_place("--ckpt_path", args.ckpt_path)
    if not (Path(args.ckpt_path).is_dir() and is_published(args.ckpt_path)):
        args.ckpt_path = str(checkpoint_in(args.ckpt_path, "--ckpt_path "))
        check_input_file(
            "--ckpt_path", args.ckpt_path, "train first, or name one, e.g. checkpoints/pretrained"
        )
    if args.config_path and is_published(args.ckpt_path):
        raise UserError(f"--config_path: {args.ckpt_path} has its own; leave it out")
    if args.config_path:
        check_input_file("--config_path", args.config_path)
    check_output_folder("--save_dir", args.save_dir)
    for nfe in args.nfe_list:
        foreign = foreign_images(Path(args.save_dir) / f"nfe={nfe}")
        if foreign:
            raise UserError(
                f"--save_dir {args.save_dir}: {foreign[0]} is not from this program and would be "
                "scored with the images; use another folder"
            )
    return args


def read_model(args, device):
    """The model that the command line names, in evaluation mode."""
    if is_published(args.ckpt_path):
        return read_published(args.ckpt_path, create_custom_model, device)[0]
    return load_model(args.ckpt_path, create_custom_model, device, args.config_path).eval()


def main(argv=None):
    args = parse_arguments(argv)
    device = pick_device(args.device)
    seed_everything(args.seed)
    model = read_model(args, device)
    if note := untrained_note(model, args.nfe_list):
        print(note)
    context = nullcontext
    if args.fast:
        from fewstep.engine.fast_sampling import make_fast  # no part of a submission's own sampling

        context = make_fast(model, device)
    per_image_seed = args.seed if args.batch_independent else None
    save_dir = Path(args.save_dir)
    for nfe in dict.fromkeys(args.nfe_list):
        try:
            with context():
                seconds = sample_to_folder(
                    model, nfe, save_dir, args.num_samples, args.batch_size, per_image_seed
                )
        except OSError as error:
            raise UserError(f"--save_dir {save_dir}: cannot be written ({error})") from error
        rate = args.num_samples / seconds
        print(f"nfe={nfe}: {args.num_samples} images, {rate:.1f} images/s without writing them")


if __name__ == "__main__":
    run_command(main)
