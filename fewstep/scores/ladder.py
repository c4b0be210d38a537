"""Do the scores see what an eye sees? Real images are corrupted in known ways and scored against
other real images; each corruption should stand above the real-vs-real floor.

    python -m fewstep ladder --data_root FOLDER [--split FILE] [--no_auc]
"""

from functools import partial
from pathlib import Path

import numpy as np

from fewstep.images import meant_by, names_by_id, read_split
from fewstep.scores.comparison import PIXELS, Comparison
from fewstep.scores.folders import image_files, load_images
from fewstep.scores.spaces import FEATURES, HELP, check_features, feature_space
from src.arguments import DEFAULT, InRange, check_input_file, line, whole_number
from src.formatting import first_names, markdown_table
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


FLOOR = "real (the floor)"
LADDER = {
    FLOOR: lambda images, random: images,
    "upside down": upside_down,
    "16-px patches shuffled": partial(shuffle_patches, size=16),
    "8-px patches shuffled": partial(shuffle_patches, size=8),
    "two faces averaged": average_two,
    "3x3 blur": box_blur,
    "noise 5/255": partial(add_noise, std=5),
    "noise 10/255": partial(add_noise, std=10),
    "red +10/255": partial(shift_red, levels=10),
    "100 modes": partial(few_modes, count=100),
    "10 modes": partial(few_modes, count=10),
    "one mode only": partial(few_modes, count=1),
}
# score -> (title, digits)
COLUMNS = {
    "frechet": ("distance", 2),
    "kid": ("kernel distance", 3),
    "coverage": ("coverage", 3),
    "swd_64": ("SWD 64 px", 0),
    "swd_16": ("SWD 16 px", 0),
    "auc": ("classifier's AUC", 3),
}
LEAST = 8  # images


def measure_ladder(images, space, seed=0, classify=False):
    """Scores of corrupted images of a random half against the other half, which is left as it is.

    uint8 images `[N, 64, 64, 3]` -> {corruption: {score: value}}, the first the untouched half.
    classify: run the classifier two-sample test too, which takes most of the time.
    """
    order = np.random.RandomState(seed).permutation(len(images))
    half, other = images[order[::2]], images[order[1::2]]
    comparison = Comparison([space], other, classify=classify)
    rows = {}
    for name, corrupt in LADDER.items():
        corrupted = np.ascontiguousarray(corrupt(half, np.random.RandomState(seed)))
        scores = comparison.scores(corrupted, seed, generated=False)
        rows[name] = scores[space.name] | scores[PIXELS]
    return rows


def ladder_table(rows):
    """Markdown table of the ladder; the distance also as a multiple of the floor's."""
    columns = {key: column for key, column in COLUMNS.items() if key in rows[FLOOR]}
    header = ["images", "times the floor", *(title for title, _ in columns.values())]
    lines = []
    for name, scores in rows.items():
        times = scores["frechet"] / rows[FLOOR]["frechet"]
        values = [f"{scores[key]:.{digits}f}" for key, (_, digits) in columns.items()]
        lines.append([name, f"{times:.1f}", *values])
    return markdown_table(header, lines)


def load_set(data_root, split=None):
    """Images of a folder at 64x64, uint8 `[N, 64, 64, 3]`: all, or those whose relative paths,
    with or without the suffix, are ids in the file `split`. Raises `UserError`."""
    files = image_files(data_root, "--data_root")
    where = f"--data_root {data_root}"
    if split is not None:
        check_input_file("--split", split, "it should list one image id a line")
        where, ids = read_split(split, "--split")
        by_id = names_by_id([file.relative_to(data_root).as_posix() for file in files])
        meant = {one: meant_by(one, by_id) for one in ids}
        missing = [one for one, names in meant.items() if not names]
        if missing:
            raise UserError(f"{where}: {data_root} has no image called {first_names(missing)}")
        files = [Path(data_root) / names[0] for names in meant.values()]
    if len(files) < LEAST:
        raise UserError(f"{where}: {len(files)} images, at least {LEAST} are needed")
    return load_images(files, size=64)


def build_parser():
    parser = CommandParser(prog="-m fewstep ladder", description=__doc__)
    add = parser.add_argument
    add("--data_root", required=True, type=line, help="folder of images")
    add("--split", type=line, help="file of image ids, one a line; without it all images")
    number = dict(type=whole_number, action=InRange, low=0, high=2**32 - 1)
    add("--seed", **number, default=0, help=f"seed of the halves and the corruptions ({DEFAULT})")
    add("--features", choices=FEATURES, default="random", help=f"feature space ({DEFAULT}). {HELP}")
    add("--fid_weights", type=line, help="file of Inception's weights")
    add("--no_auc", action="store_true", help="skip the classifier's AUC, which takes longest")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    check_features([args.features], args.fid_weights, False)
    images = load_set(args.data_root, args.split)
    space = feature_space(args.features, args.fid_weights)
    print(f"{space.name} (sha256 {space.digest[:12]}), {len(images)} images, halves compared\n")
    print(ladder_table(measure_ladder(images, space, args.seed, not args.no_auc)))
