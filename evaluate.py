"""Score a run: teacher and student at several NFE against held-out images, with the real floor.

`python evaluate.py --run_dir results/NAME` writes a table (Markdown and JSON) and a picture sheet.
"""

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from custom_model import create_custom_model
from metrics import Scorer, random_feature_space
from src.utils import (
    CommandParser,
    UserError,
    image_seeds,
    load_model,
    pick_device,
    picture_sheet,
    read_json,
    run_command,
    save_picture,
    to_uint8,
    whole_file,
    write_json,
)
from training.building import open_images
from training.checkpoints import check_identity
from training.command_line import settings_from_json
from training.run_folder import teacher_of

SHEET_COLUMNS = 10
FEW_IMAGES = 100  # fewer than features: their covariance is not even of full rank


def main(arguments=None):
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", required=True, help="folder of a run of train.py")
    parser.add_argument("--nfe_list", type=int, nargs="+", default=[1, 2, 4], help="student")
    parser.add_argument("--teacher_nfe_list", type=int, nargs="+", default=[35, 1], help="teacher")
    parser.add_argument("--num_samples", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=50)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output_dir", help="default: RUN_DIR/evaluation")
    args = parser.parse_args(arguments)
    nfes = args.nfe_list + args.teacher_nfe_list
    if args.num_samples < 2 or args.batch_size < 1 or min(nfes) < 1:
        raise UserError("--num_samples needs at least 2, --batch_size and every NFE at least 1")
    run_dir = Path(args.run_dir)
    device = pick_device(args.device)
    record = read_json(run_dir / "training_config.json")
    settings = settings_from_json(record)
    teacher = load_model(teacher_of(run_dir, record), create_custom_model, device)
    student = load_model(run_dir / "final_model.pt", create_custom_model, device)
    images = open_images(settings)
    for identity in record.get("identities", {}).values():
        check_identity(run_dir, identity, {"images": images.train.digest})
    if len(images.val) < FEW_IMAGES:
        print(f"only {len(images.val)} images are held out: distances to them mean little")
    if len(images.val) < 2 or len(images.train) < 2:
        raise UserError(f"{run_dir}: scores need at least two training and two held-out images")
    if not record.get("finished"):
        print(f"{run_dir}: the run is not finished; its newest networks are scored")

    reference = np.asarray(images.val.images)
    real = real_images(images.train, args.num_samples, args.seed)
    rows = [("real training images", real, None)]
    for name, model, nfes in [
        ("teacher", teacher, args.teacher_nfe_list),
        ("student", student, args.nfe_list),
    ]:
        for nfe in nfes:
            title = f"{name}, NFE {nfe}"
            began = time.perf_counter()
            sampled = sample_images(model, nfe, args.num_samples, args.batch_size, args.seed, title)
            rows.append((title, sampled, time.perf_counter() - began))
    output = Path(args.output_dir or run_dir / "evaluation")
    report(rows, reference, images.description, output, device)
    return 0


def real_images(cache, count, seed):
    """`count` of the images of `cache` (all, if there are fewer) as uint8 `[N, H, W, 3]`."""
    picks = np.random.default_rng(abs(seed)).permutation(len(cache))[:count]
    return cache.take(np.sort(picks)).numpy()


def sample_images(model, nfe, count, batch_size, seed, title):
    """`count` images as uint8 `[count, 64, 64, 3]`; image i depends on `seed` and i alone."""
    model.eval()
    batches = []
    for start in tqdm(range(0, count, batch_size), desc=title, leave=False, disable=None):
        seeds = image_seeds(seed, start, min(batch_size, count - start))
        images = model.sample((len(seeds), 3, 64, 64), nfe, seeds=seeds)
        if not torch.isfinite(images).all():
            raise UserError(f"{title}: values that are not finite; the run has diverged")
        batches.append(to_uint8(images))
    return torch.cat(batches).numpy()


def report(rows, reference, description, output, device):
    """Score rows (title, images, seconds) against `reference`; print and write table and sheet."""
    scorer = Scorer(random_feature_space(), reference, device)
    scores = []
    for title, pixels, seconds in rows:
        distance = scorer.distance(pixels)
        rate = len(pixels) / seconds if seconds else None
        scores.append(
            {"images": title, "count": len(pixels), "distance": distance, "images_per_second": rate}
        )
    table = markdown_table(scores, scorer.space.name, len(reference))
    print(f"{description}\n\n{table}")
    write_json(
        output / "scores.json",
        {
            "feature_space": scorer.space.name,
            "feature_space_digest": scorer.space.digest,
            "reference": description,
            "reference_count": len(reference),
            "rows": scores,
        },
    )
    with whole_file(output / "scores.md") as temporary:
        temporary.write_text(f"{description}\n\n{table}\n")
    # Apart from each other: generated pictures may be shown where real ones may not.
    for name, part in (("real.png", rows[:1]), ("sheet.png", rows[1:])):
        # Noise is the same in every generated row.
        strips = [(title, strip_of(pixels)) for title, pixels, _ in part]
        save_picture(labelled_sheet(strips), output / name)
    print(f"\nwritten to {output}: scores.md, scores.json, sheet.png, real.png")


def markdown_table(scores, space_name, reference_count):
    """The scores as a Markdown table; the distance carries the name of its feature space."""
    distance = f"Fréchet distance in {space_name} to {reference_count} held-out"
    lines = [f"| images | n | {distance} | images/s |", "|---|---|---|---|"]
    for row in scores:
        rate = f"{row['images_per_second']:.1f}" if row["images_per_second"] else ""
        lines.append(f"| {row['images']} | {row['count']} | {row['distance']:.3f} | {rate} |")
    return "\n".join(lines)


def strip_of(pixels):
    """The first pictures of uint8 `[N, H, W, 3]` side by side, as a PIL image."""
    return picture_sheet(pixels[:SHEET_COLUMNS], SHEET_COLUMNS)


def labelled_sheet(strips, label_height=16):
    """Strips of pictures, (title, PIL image) each, below each other under their titles."""
    width = max(strip.width for _, strip in strips)
    height = sum(strip.height + label_height for _, strip in strips)
    sheet = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for title, strip in strips:
        draw.text((4, top + 2), title, fill="black")
        sheet.paste(strip, (0, top + label_height))
        top += strip.height + label_height
    return sheet


if __name__ == "__main__":
    run_command(main)
