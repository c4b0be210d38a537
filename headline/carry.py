"""A small folder of the images of a run, to take along to another machine.

    python -m headline.carry --data_root DIR --train_split FILE --val_split FILE --to DIR

Every image is written at the size at which networks see it, 64x64 RGB, without loss; there it
decodes to the same pixels. Beside them train_split.txt and val_split.txt name the two sets.
"""

import sys
from pathlib import Path

from PIL import Image

from imagesets.parallel import map_ordered
from src.arguments import check_output_folder
from src.utils import CommandParser, UserError, run_command, whole_file
from training.building import open_images
from training.command_line import parse_settings

SETS = {"train": "train_split.txt", "val": "val_split.txt"}


def write_images(images, folder):
    """Write both sets of `ImageSets` and their lists; returns the bytes of all files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, listed in SETS.items():
        cache = getattr(images, name)
        names = [f"{name}_{index:05d}" for index in range(len(cache))]
        paths = [folder / f"{name}.png" for name in names]

        def write(pair):
            Image.fromarray(pair[1]).save(pair[0], optimize=True)

        for _ in map_ordered(write, zip(paths, cache.take(range(len(cache))).numpy())):
            pass
        with whole_file(folder / listed) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names))
    return sum(path.stat().st_size for path in folder.iterdir())


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="python -m headline.carry", description=__doc__)
    parser.add_argument("--data_root", required=True, help="folder of images")
    parser.add_argument("--train_split", help="file with one image id a line")
    parser.add_argument("--val_split", help="likewise for the held-out images")
    parser.add_argument("--cache_dir", default="./data/cache", help="(%(default)s)")
    parser.add_argument("--to", required=True, help="new folder to write to")
    args = parser.parse_args(argv)
    check_output_folder("--to", args.to)
    if Path(args.to).is_dir() and any(Path(args.to).iterdir()):
        raise UserError(f"--to {args.to}: is not empty; name a new folder")
    given = {key: value for key, value in vars(args).items() if value and key != "to"}
    flags = [f"--{key}={value}" for key, value in given.items()]
    images = open_images(parse_settings([*flags, "--batch_size=2"], parser.prog)[0])
    size = write_images(images, args.to)
    sizes = f"{len(images.train)} + {len(images.val)} images"
    print(f"{args.to}: {sizes}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_command(main)
