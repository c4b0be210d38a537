"""Checks that run a submission: its model is built, and sampled as the graders do."""

import json
import platform

import torch
from PIL import Image

from fewstep.handin.archive import checks
from fewstep.handin.archive.checks import Finding, some, verdict
from fewstep.handin.archive.contents import CHECKPOINT, TRAINING_SIDE
from fewstep.handin.archive.environment import HERE, failure_of, run_restricted

NFE_LIST = (1, 2, 4)
SEED, OTHER_SEED = 42, 43
FIRST = ("first", SEED, NFE_LIST)  # name, seed and NFEs of a run
REPEAT = (("again", SEED, NFE_LIST), ("other", OTHER_SEED, (1,)))
# Not to be needed by sampling; all but timm are in the grading environment.
OPTIONAL = {"timm", "kagglehub", "matplotlib", "cleanfid", "lpips"}
WHAT_IS_THERE = (
    "the graders' sampler has custom_model.py, what that imports of the project save training code,"
    " and the grading environment's packages"
)


def batch_size_for(num_samples):
    """At most 32, and never one image left over: the graders' loop fails on a batch of one."""
    return next(b for b in range(min(num_samples, 32), 1, -1) if num_samples % b != 1)


def run_graders(folder, work, num_samples, device, runs):
    """Run `graders.py` on the submission in `folder`: (process, its report, None without one).

    runs: (name, seed, NFEs) each; the images of a run are written to `work/NAME`.
    """
    request, report = work / "request.json", work / "report.json"
    report.unlink(missing_ok=True)
    content = {
        "runs": [
            {"save_dir": str(work / name), "seed": seed, "nfe_list": nfe_list}
            for name, seed, nfe_list in runs
        ],
        "num_samples": num_samples,
        "batch_size": batch_size_for(num_samples),
        "device": str(device),
        "network": checks.NETWORK,
        "report": str(report),
    }
    request.write_text(json.dumps(content))
    process = run_restricted(folder, HERE / "graders.py", request)
    return process, json.loads(report.read_text()) if report.exists() else None


def check_model(process, report, folder):
    """Whether the model can be built as graders do, from what sampling may need alone."""
    if report is None:
        detail = f"custom_model.py cannot build it ({failure_of(process)})"
        return Finding("model", False, f"{detail}; {WHAT_IS_THERE}")
    modules, problems = set(report["modules"]), []
    if needless := (TRAINING_SIDE | OPTIONAL) & modules:
        problems.append(
            f"importing custom_model also imports {some(needless)}; sampling must not need that"
        )
    local = ", ".join(sorted({path.stem for path in folder.iterdir()} & modules))
    by = f"Python {platform.python_version()} and torch {torch.__version__}"
    return verdict("model", problems, f"built from {local} alone, by {by}")


def check_sampler(process, report, work, num_samples):
    """Yield the findings on the run `FIRST`; the first of them says whether it came to its end."""
    if process.returncode:
        detail = f"fails as the graders run it ({failure_of(process)}); {WHAT_IS_THERE}"
        yield Finding("sampler", False, detail)
        return
    (run,) = report["runs"]
    yield check_images(work / "first", num_samples, run)
    yield check_evaluations(run)
    yield check_nfes_differ(image_bytes(work / "first"))


def check_seeds(folder, work, num_samples, device):
    """Yield the findings of two more runs in a new process: the same again, another seed."""
    print("the same again, and another seed ...", flush=True)
    process, report = run_graders(folder, work, num_samples, device, REPEAT)
    done = len(report["runs"]) if report else 0
    first = image_bytes(work / "first")
    problems = []
    if done < 1:
        problems.append(f"the second run fails ({failure_of(process)}); run it again")
    elif image_bytes(work / "again") != first:
        problems.append(
            f"two runs with seed {SEED} differ; draw all noise from torch's global generator"
        )
    yield verdict("same seed", problems, "the same bytes")

    problems = []
    if done < 2:
        problems.append(f"a run with seed {OTHER_SEED} fails ({failure_of(process)})")
    elif set(image_bytes(work / "other")["nfe=1"]) & set(first["nfe=1"]):
        problems.append(
            f"seeds {SEED} and {OTHER_SEED} give the same images; draw all noise from torch's"
            " global generator, without a seed of the model's own"
        )
    yield verdict("other seed", problems, "other images")


def image_bytes(save_dir):
    """Folder name -> content of each file in it, in order."""
    folders = [folder for folder in sorted(save_dir.iterdir()) if folder.is_dir()]
    return {
        folder.name: [file.read_bytes() for file in sorted(folder.iterdir())] for folder in folders
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


def check_images(save_dir, num_samples, run):
    """Whether each NFE gave `num_samples` different 64x64 RGB PNGs of values in [-1, 1]."""
    problems = image_problems(save_dir, num_samples)
    for nfe in [] if problems else NFE_LIST:
        span = run[str(nfe)]["range"]
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


def check_evaluations(run):
    """Whether each call of `sample` put each image through the network exactly NFE times."""
    counts = {nfe: run[str(nfe)]["evaluations"] for nfe in NFE_LIST}
    wrong = {nfe: [c for c in values if c != nfe] for nfe, values in counts.items()}
    problems = [
        f"NFE {nfe} takes {values[0]:g} evaluations of the network per image"
        for nfe, values in wrong.items()
        if values
    ]
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
    arguments = [
        *("--ckpt_path", CHECKPOINT, "--save_dir", work / "official", "--num_samples", num_samples),
        *("--batch_size", batch_size_for(num_samples), "--nfe_list", *NFE_LIST),
        *("--device", device, "--seed", SEED),
    ]
    process = run_restricted(folder, "sampling.py", *arguments)
    if process.returncode:
        problems = [f"fails ({failure_of(process)}); {WHAT_IS_THERE}"]
    else:
        problems = image_problems(work / "official", num_samples)
    fine = f"exit code 0, {num_samples} images at each NFE"
    return verdict("official sampling.py", problems, fine)
