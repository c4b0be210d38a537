"""A sampler with the behaviour of the graders', which also looks at the model and counts.

`graders.py REQUEST` runs in the folder of a submission, through `restricted.py`, and imports of it
what the graders' sampler does. REQUEST is a file of JSON: `runs`, a list of {"save_dir", "seed",
"nfe_list"}; `num_samples`, `batch_size`, `device`; `network`, the challenge's values; and `report`,
the file that is written anew as far as each part came: `modules` that importing `custom_model`
leaves loaded; `model` and `full`, name -> shape of the submission's model and of the challenge's
network; and `runs`, for each NFE the `evaluations` of the network per image of each call of
`sample`, and the `range` of all values (null where one is not finite).
"""

import json
import sys
from pathlib import Path

import torch

from custom_model import create_custom_model

LOADED = sorted({name.partition(".")[0] for name in sys.modules})

# After the list of what custom_model itself loads.
from src.network import UNet  # noqa: E402
from src.utils import load_model, seed_everything, tensor_to_pil_image  # noqa: E402

CHECKPOINT = "checkpoints/best_model.pt"


class EvaluationCounter:
    """Counts the images that go through the U-Nets of a model."""

    def __init__(self, model):
        self.images = 0
        for module in model.modules():
            if type(module).__name__ == "UNet":
                module.register_forward_hook(self.add)

    def add(self, module, inputs, output):
        self.images += len(output)


def sample_images(model, counter, nfe, folder, request):
    """Write the images of one NFE; returns what the report says of them."""
    folder.mkdir(parents=True)
    evaluations, lows, highs = [], [], []
    for start in range(0, request["num_samples"], request["batch_size"]):
        batch = min(request["batch_size"], request["num_samples"] - start)
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


def shapes(module):
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def main():
    request = json.loads(Path(sys.argv[1]).read_text())
    config = json.loads(Path("checkpoints/model_config.json").read_text())
    condition = bool(config.get("use_additional_condition", False))
    with torch.device("meta"):  # shapes without the memory
        full = UNet(**request["network"], use_additional_condition=condition)
    model = create_custom_model(device="cpu", **config)
    report = {"modules": LOADED, "model": shapes(model), "full": shapes(full), "runs": []}
    Path(request["report"]).write_text(json.dumps(report))
    for run in request["runs"]:
        seed_everything(run["seed"])
        model = load_model(CHECKPOINT, create_custom_model, request["device"], config_path=None)
        counter = EvaluationCounter(model.eval())
        folders = {nfe: Path(run["save_dir"]) / f"nfe={nfe}" for nfe in run["nfe_list"]}
        report["runs"].append(
            {nfe: sample_images(model, counter, nfe, folders[nfe], request) for nfe in folders}
        )
        Path(request["report"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
