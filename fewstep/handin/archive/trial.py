"""Checks that run a submission: its model is built, and sampled as the graders do."""

import json
import platform

import torch
from PIL import Image

from fewstep.handin.archive.child import HERE, failure_of, run_restricted
from fewstep.handin.archive.contents import CHECKPOINT, TRAINING_SIDE
from fewstep.handin.archive.findings import Finding, some, verdict

NFE_LIST = (1, 2, 4)
SEED, OTHER_SEED = 42, 43
# Not to be needed by sampling; all but timm are in the grading environment.
OPTIONAL = {"timm", "kagglehub", "matplotlib", "cleanfid", "lpips"}
WHAT_IS_THERE = (
    "the graders' sampler has custom_model.py, what that imports of the project save training code,"
    " and the grading environment's packages"
)


def probe(folder, work):
    """(finding, report of `probe.py` or None): whether the model can be built as graders do."""
    path = work / "probe.json"
    process = run_restricted(folder, HERE / "probe.py", path)
    if process.returncode:
        detail = f"custom_model.py cannot build it ({failure_of(process)})"
        return Finding("model", False, f"{detail}; {WHAT_IS_THERE}"), None
    report = json.loads(path.read_text())
    needless = (TRAINING_SIDE | OPTIONAL) & set(report["modules"])
    problems = []
    if needless:
        problems.append(
            f"importing custom_model also imports {some(needless)}; sampling must not need that"
        )
    local = {path.stem for path in folder.iterdir()} & set(report["modules"])
    by = f"by Python {platform.python_version()} and torch {torch.__version__}"
    return verdict("model", problems, f"built from {', '.join(sorted(local))} alone, {by}"), report


def batch_size_for(num_samples):
    """At most 32, and never one image left over: the graders' loop fails on a batch of one."""
    return next(b for b in range(min(num_samples, 32), 1, -1) if num_samples % b != 1)


def sampler_arguments(save_dir, num_samples, nfe_list, device, seed):
    """The official command line of a sampler."""
    return [
        *("--ckpt_path", CHECKPOINT, "--save_dir", save_dir, "--num_samples", num_samples),
        *("--batch_size", batch_size_for(num_samples), "--nfe_list", *nfe_list),
        *("--device", device, "--seed", seed),
    ]


def sample(folder, work, name, num_samples, device, seed=SEED, nfe_list=NFE_LIST):
    """Sample as the graders do into `work/name`; (process, report or None)."""
    report = work / f"{name}.json"
    arguments = sampler_arguments(work / name, num_samples, nfe_list, device, seed)
    process = run_restricted(folder, HERE / "graders.py", *arguments, "--report", report)
    return process, None if process.returncode else json.loads(report.read_text())


def try_sampler(folder, work, num_samples, device):
    """Yield the findings of three runs: one, the same again, another seed."""
    print(f"sampling as the graders do: {num_samples} images at NFE 1, 2, 4 ...", flush=True)
    process, report = sample(folder, work, "first", num_samples, device)
    if report is None:
        detail = f"fails as the graders run it ({failure_of(process)}); {WHAT_IS_THERE}"
        yield Finding("sampler", False, detail)
        return
    yield check_images(work / "first", num_samples, report)
    yield check_evaluations(report)
    first = image_bytes(work / "first")
    yield check_nfes_differ(first)

    print("the same again ...", flush=True)
    process, report = sample(folder, work, "again", num_samples, device)
    problems = []
    if report is None:
        problems.append(f"the second run fails ({failure_of(process)}); run it again")
    elif image_bytes(work / "again") != first:
        problems.append(
            f"two runs with seed {SEED} differ; draw all noise from torch's global generator"
        )
    yield verdict("same seed", problems, "the same bytes")

    print("another seed, NFE 1 ...", flush=True)
    process, report = sample(folder, work, "other", num_samples, device, OTHER_SEED, [1])
    problems = []
    if report is None:
        problems.append(f"a run with seed {OTHER_SEED} fails ({failure_of(process)})")
    elif set(image_bytes(work / "other")["nfe=1"]) & set(first["nfe=1"]):
        problems.append(
            f"seeds {SEED} and {OTHER_SEED} give the same images; draw all noise from torch's"
            " global generator, without a seed of the model's own"
        )
    yield verdict("other seed", problems, "other images")


def image_bytes(save_dir):
    """Folder name -> content of each file in it, in order."""
    return {
        folder.name: [file.read_bytes() for file in sorted(folder.iterdir())]
        for folder in sorted(save_dir.iterdir())
        if folder.is_dir()
    }


def image_problems(save_dir, num_samples):
    """What is wrong with the number, names, size or kind of the images that a sampler wrote."""
    problems = []
    for nfe in NFE_LIST:
        folder = save_dir / f"nfe={nfe}"
        names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        if names != [f"{i:04d}.png" for i in range(num_samples)]:
            problems.append(f"NFE {nfe} gives {len(names)} files, not 0000.png to the last")
        for name in names:
            with Image.open(folder / name) as image:
                kind = (image.format, image.mode, image.size)
            if kind != ("PNG", "RGB", (64, 64)):
                problems.append(f"nfe={nfe}/{name} is {kind}, not a 64x64 RGB PNG")
                break
    return problems


def check_images(save_dir, num_samples, report):
    """Whether each NFE gave `num_samples` different 64x64 RGB PNGs of values in [-1, 1]."""
    problems = image_problems(save_dir, num_samples)
    for nfe in [] if problems else NFE_LIST:
        span = report[str(nfe)]["range"]
        files = sorted((save_dir / f"nfe={nfe}").iterdir())
        flat = [file.name for file in files if _is_flat(file)]
        if span is None:
            problems.append(f"NFE {nfe} gives values that are not finite; use other weights")
        elif not -1 <= span[0] <= span[1] <= 1:
            problems.append(
                f"NFE {nfe} gives values from {span[0]:.2f} to {span[1]:.2f}; clamp to [-1, 1]"
            )
        if flat:
            problems.append(f"NFE {nfe}: {some(flat)} of one colour; use other weights")
        elif len({file.read_bytes() for file in files}) < num_samples:
            problems.append(f"NFE {nfe} gives an image twice; draw noise for each image")
    fine = f"{num_samples} different 64x64 RGB PNGs at each NFE, values in [-1, 1]"
    return verdict("sampler", problems, fine)


def _is_flat(path):
    with Image.open(path) as image:
        return all(low == high for low, high in image.getextrema())


def check_evaluations(report):
    """Whether each call of `sample` put each image through the network exactly NFE times."""
    problems = []
    for nfe in NFE_LIST:
        counts = [count for count in report[str(nfe)]["evaluations"] if count != nfe]
        if counts:
            problems.append(f"NFE {nfe} takes {counts[0]:g} evaluations of the network per image")
    if problems:
        problems.append("sample() must take exactly num_inference_timesteps")
    return verdict("evaluations", problems, "1, 2, 4 of the network per image at NFE 1, 2, 4")


def check_nfes_differ(images):
    """Whether no two NFE gave the same images. `images`: see `image_bytes`."""
    pairs = [
        f"NFE {a} and {b} give the same images; use num_inference_timesteps"
        for a, b in ((1, 2), (1, 4), (2, 4))
        if set(images[f"nfe={a}"]) & set(images[f"nfe={b}"])
    ]
    return verdict("NFEs", pairs, "1, 2 and 4 give different images")


def try_official(folder, work, num_samples, device):
    """The finding of running the challenge's own `sampling.py`, which lies in `folder`."""
    print("sampling with the official sampling.py ...", flush=True)
    arguments = sampler_arguments(work / "official", num_samples, NFE_LIST, device, SEED)
    process = run_restricted(folder, "sampling.py", *arguments)
    if process.returncode:
        problems = [f"fails ({failure_of(process)}); {WHAT_IS_THERE}"]
    else:
        problems = image_problems(work / "official", num_samples)
    fine = f"exit code 0, {num_samples} images at each NFE"
    return verdict("official sampling.py", problems, fine)
