"""How far a folder of generated images is from the validation images.

python measure_fid.py --generated_dir samples/nfe=1
"""

import os
import shutil
from functools import partial
from pathlib import Path

from PIL import Image

from fewstep.scores.feature_cache import cached_features, files_digest
from fewstep.scores.folders import image_files, load_images, say_differences, say_if_few
from fewstep.scores.frechet import distance_name, feature_distance
from fewstep.scores.inception import download_weights, weights_path
from fewstep.scores.random_features import SMALLEST
from fewstep.scores.spaces import FEATURES, HELP, check_features, feature_space
from src.arguments import (
    DEFAULT,
    LARGEST_BATCH,
    InRange,
    check_input_folder,
    check_output_file,
    check_output_folder,
    line,
    whole_number,
)
from src.feedback import Progress
from src.utils import CommandParser, UserError, pick_device, run_command, to_uint8, write_json

REFERENCE = "./data/simpsons_64x64/val"  # the only folder of reference images that is ever made


def write_reference(data_root, reference_dir):
    """Write the validation images as 0000.png, ... in the split's order.

    They are written beside `reference_dir` and moved there at the end, so that a half-written
    folder is never taken for the reference.
    """
    from dataset import SimpsonsDataModule  # a reference that is already there needs no data set

    reference_dir = Path(reference_dir)
    try:
        images = SimpsonsDataModule(root=data_root).val_ds
    except UserError as error:
        raise UserError(
            f"--reference_dir {reference_dir}: not there; name a folder of reference images."
            f" The Simpsons' validation images cannot be put there: {error}"
        ) from error
    temporary = reference_dir.with_name(f".{reference_dir.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        with Progress(f"writing {reference_dir}", len(images), stays=True) as report:
            for i in range(len(images)):
                pixels = to_uint8(images[i]).numpy()
                Image.fromarray(pixels).save(temporary / f"{i:04d}.png")
                report.update()
        os.rename(temporary, reference_dir)
    except OSError as error:
        raise UserError(f"--reference_dir {reference_dir}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def distance(space, generated, reference, device, batch_size, cache_dir):
    """Fréchet distance in a feature space between two lists of image files.

    The reference's features are kept in `cache_dir` under a name made from its files' contents.
    """

    def embed(files):
        return space.embed_files(files, batch_size, device)

    with Progress("reading the reference"):
        content = files_digest(reference)
    target = cached_features(cache_dir, space, content, device, lambda: embed(reference))
    features = embed(generated)
    with Progress("distance"):
        return feature_distance(features, target)


def check_sizes(generated, reference):
    """Spaces beside Inception's want images of one size, not too small: raise `UserError`."""
    (height, width, _), (height2, width2, _) = (
        load_images(files[:1])[0].shape for files in (generated, reference)
    )
    if min(height, width) < SMALLEST:
        raise UserError(
            f"--generated_dir {generated[0].parent}: images of {width}x{height};"
            f" sides of {SMALLEST} pixels at least are needed"
        )
    if (height, width) != (height2, width2):
        raise UserError(
            f"--generated_dir {generated[0].parent}: images of {width}x{height},"
            f" the reference's have {width2}x{height2}"
        )


def build_parser():
    parser = CommandParser(description=__doc__)
    add = partial(parser.add_argument, type=line)
    add("--generated_dir", required=True, help="folder of generated images")
    add(
        "--reference_dir",
        default=REFERENCE,
        help="folder of real images; the default alone is written from --data_root if it is not"
        f" there ({DEFAULT})",
    )
    add(
        "--data_root",
        default="./data/datasets/kostastokis/simpsons-faces/versions/1/cropped",
        help=f"folder of the data set's images ({DEFAULT})",
    )
    add("--device", default="cuda", help=f"cuda, cuda:N or cpu ({DEFAULT})")
    parser.add_argument(
        "--batch_size",
        type=whole_number,
        action=InRange,
        low=1,
        high=LARGEST_BATCH,
        default=64,
        help=f"images at once ({DEFAULT})",
    )
    add("--output_path", default="./fid_results.json", help=f"file for the result ({DEFAULT})")
    add(
        "--features",
        choices=FEATURES,
        default="inception",
        help=f"feature space ({DEFAULT}). {HELP}",
    )
    add(
        "--fid_weights",
        help="file of Inception's weights (default: that of the environment's FID_WEIGHTS, else"
        " where clean-fid keeps it)",
    )
    parser.add_argument(
        "--download_weights",
        action="store_true",
        help="download Inception's weights once if they are not there",
    )
    text = f"folder that keeps the reference's features ({DEFAULT})"
    add("--cache_dir", default="./data/cache", help=text)
    return parser


def parse_arguments(argv=None):
    """The command line, checked as far as that is possible without reading an image."""
    parser = build_parser()
    args = parser.parse_args(argv)
    check_features([args.features], args.fid_weights, args.download_weights)
    if args.fid_weights and args.download_weights:
        check_output_file("--fid_weights", args.fid_weights)
    check_output_file("--output_path", args.output_path)
    check_output_folder("--cache_dir", args.cache_dir)
    if not Path(args.reference_dir).exists():
        if Path(args.reference_dir).resolve() != Path(REFERENCE).resolve():
            raise UserError(
                f"--reference_dir {args.reference_dir}: no such folder; name one that is there, or"
                f" leave the flag out, and the Simpsons' validation images are put in {REFERENCE}"
            )
        check_output_folder("--reference_dir", args.reference_dir)
        if args.data_root != parser.get_default("data_root"):  # which may be downloaded
            check_input_folder("--data_root", args.data_root)
    return args


def main(argv=None):
    args = parse_arguments(argv)
    device = pick_device(args.device)
    is_inception = args.features == "inception"
    generated = image_files(args.generated_dir, "--generated_dir", is_inception)
    is_there = Path(args.reference_dir).exists()
    list_reference = partial(image_files, args.reference_dir, "--reference_dir", is_inception)
    reference = list_reference() if is_there else []
    if args.download_weights:
        download_weights(weights_path(args.fid_weights))
    space = feature_space(args.features, args.fid_weights)
    if not is_there:
        write_reference(args.data_root, args.reference_dir)
        reference = list_reference()
    if is_inception:
        say_differences(generated, args.generated_dir)
        say_differences(reference, args.reference_dir)
    else:
        check_sizes(generated, reference)

    say_if_few(len(generated), f"images are in {args.generated_dir}")
    say_if_few(len(reference), f"images are in {args.reference_dir}")
    score = distance(space, generated, reference, device, args.batch_size, args.cache_dir)
    title = distance_name(space.name, space.is_fid)
    print(f"{title}: {score:.4f} ({len(generated)} images against {len(reference)})")
    result = {
        "fid_score" if space.is_fid else "frechet_distance": score,
        "feature_space": space.name,
        "feature_space_sha256": space.digest,
        "generated_dir": args.generated_dir,
        "reference_dir": args.reference_dir,
        "num_generated": len(generated),
        "num_reference": len(reference),
    }
    try:
        write_json(args.output_path, result)
    except OSError as error:
        raise UserError(f"--output_path {args.output_path}: cannot be written ({error})") from error
    print(f"written to {args.output_path}")


if __name__ == "__main__":
    run_command(main)
