"""How far a folder of generated images is from the validation images.

python measure_fid.py --generated_dir samples/nfe=1
"""

import os
import shutil
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from metrics import random_feature_space, set_distance
from metrics.folders import image_files, load_images
from metrics.inception import check_weights, fid, load_inception
from src.utils import CommandParser, UserError, pick_device, run_command, to_uint8, write_json


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
        for i in tqdm(range(len(images)), desc=f"writing {reference_dir}"):
            pixels = to_uint8(images[i]).numpy()
            Image.fromarray(pixels).save(temporary / f"{i:04d}.png")
        os.rename(temporary, reference_dir)
    except OSError as error:
        raise UserError(f"--reference_dir {reference_dir}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def measure_fid(generated, reference, device, batch_size):
    """FID of two lists of image files, as the JSON's content."""
    score = fid(generated, reference, load_inception(device), device, batch_size)
    print(f"FID: {score:.4f} ({len(generated)} images against {len(reference)})")
    return {"fid_score": score}


def measure_random(generated, reference, device, batch_size):
    """Fréchet distance of random features of two lists of image files, as the JSON's content."""
    space = random_feature_space()
    images, reference_images = load_images(generated), load_images(reference)
    if images.shape[1:] != reference_images.shape[1:]:
        raise UserError(
            f"--generated_dir {generated[0].parent}: images of {images.shape[2]}x{images.shape[1]},"
            f" the reference's have {reference_images.shape[2]}x{reference_images.shape[1]}"
        )
    distance = set_distance(images, reference_images, space, batch_size=batch_size, device=device)
    counts = f"{len(generated)} images against {len(reference)}"
    print(f"Fréchet distance in {space.name} (not FID): {distance:.4f} ({counts})")
    return {
        "frechet_distance": distance,
        "feature_space": space.name,
        "feature_space_sha256": space.digest,
    }


def main(argv=None):
    parser = CommandParser(description=__doc__)
    parser.add_argument("--generated_dir", required=True, help="folder of generated images")
    parser.add_argument(
        "--reference_dir",
        default="./data/simpsons_64x64/val",
        help="folder of real images; written from --data_root if it is not there (%(default)s)",
    )
    parser.add_argument(
        "--data_root",
        default="./data/datasets/kostastokis/simpsons-faces/versions/1/cropped",
        help="folder of the data set's images (%(default)s)",
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--output_path", default="./fid_results.json", help="(%(default)s)")
    parser.add_argument(
        "--features",
        choices=["inception", "random"],
        default="inception",
        help="inception: FID. random: fixed random features, no weights needed (%(default)s)",
    )
    args = parser.parse_args(argv)

    if args.batch_size < 1:
        raise UserError(f"--batch_size {args.batch_size}: at least 1")
    if Path(args.output_path).is_dir():
        raise UserError(f"--output_path {args.output_path}: is a folder; name a JSON file")
    generated = image_files(args.generated_dir, "--generated_dir")
    if args.features == "inception":
        check_weights()
    if not Path(args.reference_dir).exists():
        write_reference(args.data_root, args.reference_dir)
    reference = image_files(args.reference_dir, "--reference_dir")
    device = pick_device(args.device)

    measure = measure_fid if args.features == "inception" else measure_random
    result = measure(generated, reference, device, args.batch_size)
    result |= {
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
