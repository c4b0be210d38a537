"""Classifier two-sample test (Lopez-Paz & Oquab 2017, arXiv:1610.06545): can a small network,
trained for the purpose, tell generated from real images it has not seen? No outside weights
are needed."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fewstep.scores.pixels import checked_images
from src.feedback import Progress

STEPS, LEAST_STEPS = 150, 20
PASSES = 20  # over a half of the images: more would only be learnt by heart
BATCH = 64
LEARNING_RATE = 2e-3
WARMUP_STEPS = 10
WAVES = (1, 2, 4)  # half periods of the colour waves over the range of grey levels
DETAIL_GAIN = 50  # lifts about two grey levels of detail into the bend of asinh


def classifier_auc(generated, real, seed=0, device="cpu", steps=None):
    """How well a classifier tells uint8 images `[N, H, W, 3]` from real ones `[M, H, W, 3]`.

    Returns the area under the ROC curve: the chance that the classifier finds a generated image
    more generated than a real one. 0.5 is perfect, below it is chance, 1 is told apart at sight.
    The larger set is subsampled to the smaller, both are halved at random, a network is trained on
    one half of each for `steps` steps (no early stop, nothing is selected; as many as are worth it
    for so many images, at most 150) and scored on the other;
    then the halves swap, and the two areas are averaged. More images make a better classifier:
    compare equal counts only. The same for the same arguments on a CPU; global random states
    neither matter nor change. Raises `ValueError` for other or different shapes, sides that are
    not multiples of 32, or fewer than four images.
    """
    generated, real = checked_images(generated), checked_images(real)
    if generated.shape[1:] != real.shape[1:] or any(side % 32 for side in real.shape[1:3]):
        raise ValueError(
            f"images {generated.shape}, {real.shape}: one size, of multiples of 32, is needed"
        )
    count = min(len(generated), len(real))
    if count < 4:
        raise ValueError(f"{count} images are too few to train and to score a classifier")
    steps = steps or min(STEPS, max(LEAST_STEPS, PASSES * count // BATCH))
    random = np.random.RandomState(seed)
    halves = [[], []]
    for images in (generated, real):
        order = random.permutation(len(images))[:count]
        halves[0].append(images[order[: count // 2]])
        halves[1].append(images[order[count // 2 :]])
    areas = []
    with Progress("classifier", 2 * steps, "step") as report:
        for training, scored in (halves, halves[::-1]):
            network = _train(*training, random, torch.device(device), steps, report)
            areas.append(roc_auc(*(_logits(network, images) for images in scored)))
    return float(np.mean(areas))


def roc_auc(positive, negative):
    """Area under the ROC curve of the scores of two classes, `[N]` and `[M]`, each at least one.

    U / (N M), where U counts the pairs whose positive score is the higher, ties as one half (Mann &
    Whitney 1947).
    """
    from scipy.stats import rankdata  # half a second that not every command need wait for

    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


class Classifier(nn.Module):
    """`views` of images -> logits `[B]`, positive for generated. About 110,000 weights.

    height, width: of the images. Four convolutions at 1/2 to 1/16 of the size. The head sees the
    mean of each layer, for texture, and the last layer with its places, for structure.
    """

    def __init__(self, height, width, channels=(16, 32, 64, 64)):
        super().__init__()
        self.first = nn.Conv2d(15 + 6 * len(WAVES), channels[0], 3, padding=1)
        pairs = list(zip(channels, channels[1:]))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for _, b in pairs)
        last = channels[-1] * (height // 16) * (width // 16)
        self.head = nn.Linear(sum(channels[:-1]) + last, 1)
        self.to(memory_format=torch.channels_last)  # less time on a CPU

    def forward(self, x):
        x = x.contiguous(memory_format=torch.channels_last)
        h, means = F.leaky_relu(self.first(x), 0.2), []
        for conv, norm in zip(self.convs, self.norms):
            means.append(h.mean(dim=(2, 3)))
            h = F.leaky_relu(norm(conv(h)), 0.2)
        return self.head(torch.cat([*means, h.flatten(1)], dim=1)).squeeze(1)


def views(images, mirrored=False):
    """uint8 images `[N, H, W, 3]`, mirrored if asked -> what the classifier sees of them,
    `[N, 33, H/2, W/2]` on their device.

    What ordinary images drown is offered so that few steps suffice: detail within 2x2 pixels, its
    size compressed, for weak noise and blur; waves over the colours, whose mean is a soft
    histogram, for casts. Of an image always the same, so it is computed once and not at each step.
    """
    seen = []
    for batch in images.split(BATCH):
        batch = batch.flip(2) if mirrored else batch
        x = batch.permute(0, 3, 1, 2).float() / 127.5 - 1  # [B, 3, H, W] in [-1, 1]
        coarse = F.avg_pool2d(x, 2)
        detail = F.pixel_unshuffle(x - F.interpolate(coarse, scale_factor=2), 2)
        waves = [wave(torch.pi * k * coarse) for k in WAVES for wave in (torch.sin, torch.cos)]
        seen.append(torch.cat([coarse, *waves, torch.asinh(DETAIL_GAIN * detail)], dim=1))
    return torch.cat(seen)


def _train(generated, real, random, device, steps, report):
    """A `Classifier` trained on uint8 images of both classes, equally many of each in a batch."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs too, which fork_rng does not put back here
        torch.default_generator.manual_seed(random.randint(2**31))
        network = Classifier(*real.shape[1:3]).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    share = BATCH // 2
    classes = [torch.from_numpy(images).to(device) for images in (generated, real)]
    # [2 N, 33, H/2, W/2]: mirror images behind the images
    classes = [torch.cat([views(images), views(images, mirrored=True)]) for images in classes]
    orders = [_passes(random, len(images), steps * share) for images in (generated, real)]
    labels = torch.tensor([1.0] * share + [0.0] * share, device=device)
    for step in range(steps):
        rate = min(1, (step + 1) / WARMUP_STEPS) * (1 + np.cos(np.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        rows = slice(step * share, (step + 1) * share)
        halves = torch.from_numpy(random.random_sample(BATCH) < 0.5).split(share)
        picks = [
            order[rows] + mirrored * (len(seen) // 2)
            for seen, order, mirrored in zip(classes, orders, halves)
        ]
        batch = torch.cat([seen[pick] for seen, pick in zip(classes, picks)])
        loss = F.binary_cross_entropy_with_logits(network(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report.update()
    return network


def _passes(random, count, length):
    """Indices below `count` `[length]`: one random order of all after another."""
    orders = [random.permutation(count) for _ in range(-(-length // count))]
    return torch.from_numpy(np.concatenate(orders)[:length])


@torch.no_grad()
def _logits(network, images):
    """Logits `[N]`, a NumPy array, of uint8 images `[N, H, W, 3]`."""
    device = network.head.weight.device
    batches = torch.from_numpy(images).split(256)
    return torch.cat([network(views(batch.to(device))).cpu() for batch in batches]).numpy()
