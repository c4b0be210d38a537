"""A sampler with the behaviour of the graders', which counts evaluations of the network besides.

It runs in the folder of a submission, through `restricted.py`, and imports of it only what the
graders' sampler does. `--report` gets JSON: for each NFE the evaluations per image of each call of
`sample`, and the lowest and highest value of all images (null where one is not finite).
"""

import argparse
import json
from pathlib import Path

import torch

from custom_model import create_custom_model
from src.utils import load_model, seed_everything, tensor_to_pil_image


class EvaluationCounter:
    """Counts the images that go through the U-Nets of a model."""

    def __init__(self, model):
        self.images = 0
        for module in model.modules():
            if type(module).__name__ == "UNet":
                module.register_forward_hook(self.add)

    def add(self, module, inputs, output):
        self.images += len(output)


def sample_images(model, counter, nfe, args):
    """Write the images of one NFE; returns what the report says of them."""
    folder = Path(args.save_dir) / f"nfe={nfe}"
    folder.mkdir(parents=True)
    evaluations, lows, highs = [], [], []
    for start in range(0, args.num_samples, args.batch_size):
        batch = min(args.batch_size, args.num_samples - start)
        before = counter.images
        with torch.no_grad():
            samples = model.sample((batch, 3, 64, 64), num_inference_timesteps=nfe, verbose=False)
        evaluations.append((counter.images - before) / batch)
        lows.append(samples.min().item())
        highs.append(samples.max().item())
        for j, image in zip(range(batch), tensor_to_pil_image(samples)):
            image.save(folder / f"{start + j:04d}.png")
    finite = all(abs(value) < float("inf") for value in lows + highs)
    span = [min(lows), max(highs)] if finite else None
    return {"evaluations": evaluations, "range": span}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ckpt_path", required=True)
    parser.add_argument("--save_dir", required=True)
    parser.add_argument("--num_samples", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--nfe_list", type=int, nargs="+", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--report", required=True)
    args = parser.parse_args()
    seed_everything(args.seed)
    model = load_model(args.ckpt_path, create_custom_model, device=args.device, config_path=None)
    model.eval()
    counter = EvaluationCounter(model)
    report = {str(nfe): sample_images(model, counter, nfe, args) for nfe in args.nfe_list}
    Path(args.report).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
