"""Do the scores see what an eye sees? Real images are corrupted in known ways and scored against
other real images; each corruption should stand above the real-vs-real floor.

    python -m fewstep ladder --data_root FOLDER [--split FILE] [--other_split FILE] [--no_auc]
"""

from pathlib import Path

import numpy as np

from fewstep.scores import random_feature_space, set_distance
from fewstep.scores.comparison import PIXELS, Comparison
from fewstep.scores.folders import image_files, load_images
from src.arguments import InRange, check_input_file, line, whole_number
from src.utils import CommandParser, UserError


def upside_down(images, random):
    """Flip top and bottom."""
    return images[:, ::-1]


def shuffle_patches(images, random, size):
    """Put the square patches of `size` pixels of each image into a random order of its own."""
    count, height, width, channels = images.shape
    rows, columns = height // size, width // size
    patches = images.reshape(count, rows, size, columns, size, channels).swapaxes(2, 3)
    patches = patches.reshape(count, rows * columns, size, size, channels)
    patches = np.stack([image[random.permutation(rows * columns)] for image in patches])
    patches = patches.reshape(count, rows, columns, size, size, channels).swapaxes(2, 3)
    return patches.reshape(images.shape)


def average_two(images, random):
    """Average each image with the next one of a random circle, so never with itself."""
    order = random.permutation(len(images))
    partner = np.empty_like(images)
    partner[order] = images[np.roll(order, 1)]
    return ((images.astype(np.uint16) + partner + 1) // 2).astype(np.uint8)


def box_blur(images, random):
    """Mean over 3x3 pixels; borders are repeated."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float64)
    height, width = images.shape[1:3]
    shifted = (padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return np.rint(sum(shifted) / 9).astype(np.uint8)


def add_noise(images, random, std):
    """Add Gaussian noise of `std` grey levels."""
    noisy = images + std * random.standard_normal(images.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def shift_red(images, random, levels):
    """Add `levels` grey levels to the red channel: a colour cast."""
    shifted = images.astype(np.int16)
    shifted[..., 0] += levels
    return shifted.clip(0, 255).astype(np.uint8)


def few_modes(images, random, count):
    """Replace all images by copies of the first `count`."""
    return images[random.randint(0, min(count, len(images)), len(images))]


CORRUPTIONS = {
    "upside down": upside_down,
    "16-px patches shuffled": lambda images, random: shuffle_patches(images, random, 16),
    "8-px patches shuffled": lambda images, random: shuffle_patches(images, random, 8),
    "two faces averaged": average_two,
    "3x3 blur": box_blur,
    "noise 5/255": lambda images, random: add_noise(images, random, 5),
    "noise 10/255": lambda images, random: add_noise(images, random, 10),
    "red +10/255": lambda images, random: shift_red(images, random, 10),
    "100 modes": lambda images, random: few_modes(images, random, 100),
    "10 modes": lambda images, random: few_modes(images, random, 10),
    "one mode only": lambda images, random: few_modes(images, random, 1),
}


FLOOR = "real (the floor)"
COLUMNS = {"frechet": 2, "kid": 1, "coverage": 3, "swd_64": 0, "swd_16": 0, "auc": 3}  # digits


def measure_ladder(images, space, seed=0, classify=False):
    """Scores of corrupted images of a random half against the other half, which is left as it is.

    uint8 images `[N, 64, 64, 3]` -> {corruption: {score: value}}, the first the untouched half.
    classify: run the classifier two-sample test too, which takes most of the time.
    """
    order = np.random.RandomState(seed).permutation(len(images))
    half, other = images[order[::2]], images[order[1::2]]
    comparison = Comparison([space], other, None, None, "cpu", classify=classify)
    rows = {}
    for name, corrupt in {FLOOR: lambda images, _: images, **CORRUPTIONS}.items():
        corrupted = np.ascontiguousarray(corrupt(half, np.random.RandomState(seed)))
        scores = comparison.scores(corrupted, seed, generated=False)
        rows[name] = scores[space.name] | scores[PIXELS]
    return rows


def ladder_table(rows):
    """Markdown table of the ladder; the distance also as a multiple of the floor's."""
    keys = [key for key in COLUMNS if all(key in scores for scores in rows.values())]
    titles = dict(frechet="distance", kid="kernel distance", swd_64="SWD 64 px", swd_16="SWD 16 px")
    header = ["images", "times the floor", *(titles.get(key, key) for key in keys)]
    floor = rows[FLOOR]["frechet"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name, scores in rows.items():
        values = [f"{scores[key]:.{COLUMNS[key]}f}" for key in keys]
        times = f"{scores['frechet'] / floor:.1f}"
        lines.append("| " + " | ".join([name, times, *values]) + " |")
    return "\n".join(lines)


def find_set(data_root, split=None, least=2, flag="--split"):
    """Image files of a folder: all, or `{id}.png` for the ids in the file `split`."""
    files = image_files(data_root, "--data_root")
    if split is not None:
        check_input_file(flag, split, "it should list one image id a line")
        try:
            names = Path(split).read_text(encoding="utf-8").split()
        except ValueError as error:
            raise UserError(f"{flag} {split}: not a text file; one image id a line") from error
        files = [Path(data_root) / f"{name}.png" for name in names]
        for file in files:
            check_input_file(flag, file, f"{split} lists it")
    if len(files) < least:
        where = f"{flag} {split}" if split else f"--data_root {data_root}"
        raise UserError(f"{where}: {len(files)} images, at least {least} are needed")
    return files


def load_set(data_root, split=None, least=2):
    """The images of `find_set` at 64x64."""
    return load_images(find_set(data_root, split, least), size=(64, 64))


def build_parser():
    parser = CommandParser(prog="-m fewstep ladder", description=__doc__)
    parser.add_argument("--data_root", required=True, type=line, help="folder of images")
    parser.add_argument(
        "--split", type=line, help="file of image ids, one a line; without it all images"
    )
    parser.add_argument(
        "--other_split", type=line, help="further ids, measured against all of --split"
    )
    parser.add_argument(
        "--seed",
        type=whole_number,
        action=InRange,
        low=0,
        high=2**32 - 1,
        default=0,
        help="of the halves and corruptions",
    )
    parser.add_argument("--no_auc", action="store_true", help="skip the classifier's test")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    sets = [find_set(args.data_root, args.split, least=8)]
    if args.other_split:
        sets.append(find_set(args.data_root, args.other_split, flag="--other_split"))
    images, *others = (load_images(files, size=(64, 64)) for files in sets)
    space = random_feature_space()
    print(f"{space.name} (sha256 {space.digest[:12]}), {len(images)} images, halves compared\n")
    print(ladder_table(measure_ladder(images, space, args.seed, not args.no_auc)))
    for other in others:
        distance = set_distance(other, images, space)
        print(f"\n{len(other)} other real images against all {len(images)}: {distance:.3f}")
