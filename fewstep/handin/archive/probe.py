"""What a submission's model is made of: run in its folder, through `restricted.py`.

Writes JSON to the file it is given: `modules`, the top-level modules that importing `custom_model`
leaves loaded; `model` and `full`, name -> shape of the state dict of the model that
`model_config.json` describes, and of the challenge's network.
"""

import json
import sys
from pathlib import Path

from custom_model import create_custom_model

LOADED = sorted({name.partition(".")[0] for name in sys.modules})

from src.network import UNet  # noqa: E402  after the list of what custom_model itself loads

# The challenge's fixed values.
NETWORK = dict(ch=128, ch_mult=[1, 2, 2, 2], attn=[1], num_res_blocks=4, dropout=0.1)


def shapes(module):
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def main():
    config = json.loads(Path("checkpoints/model_config.json").read_text())
    condition = bool(config.get("use_additional_condition", False))
    model = create_custom_model(device="cpu", **config)
    full = UNet(**NETWORK, use_additional_condition=condition)
    report = {"modules": LOADED, "model": shapes(model), "full": shapes(full)}
    Path(sys.argv[1]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
