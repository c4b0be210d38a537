"""Which files a submission holds, and where each comes from."""

from pathlib import Path

from fewstep.handin.archive.imports import module_files, reachable
from src.utils import UserError

CHECKPOINT, CONFIG = "checkpoints/best_model.pt", "checkpoints/model_config.json"
REQUIREMENTS, WRITEUP = "requirements.txt", "writeup.pdf"

# Handed out by the challenge; a submission may not change them.
PROVIDED = (
    "src/base_model.py",
    "src/network.py",
    "src/module.py",
    "dataset.py",
    "sampling.py",
    "measure_fid.py",
)
SPLITS = ("data/train_split.txt", "data/val_split.txt")  # provided as well

# What someone runs; all that these import goes along.
ENTRIES = ("custom_model.py", "train.py", "dataset.py", "sampling.py", "measure_fid.py")

# The project's modules that a grader's sampler has no use for.
TRAINING_SIDE = set("fewstep discriminator train dataset measure_fid".split())


def collect(root, checkpoint, config, official=None, writeup=None):
    """The archive as {posix name: path of the file}.

    root: the project. official: a checkout of the challenge, whose provided files are taken in
    place of ours. Raises `UserError` when a file is missing, naming all that are.
    """
    root = Path(root)
    for flag, path in (("ckpt_path", checkpoint), ("config_path", config)):
        if not Path(path).is_file():
            raise UserError(f"--{flag} {path}: no such file; train first, or name one")
    if writeup and not Path(writeup).is_file():
        raise UserError(f"--writeup_pdf {writeup}: no such file")
    if writeup and not Path(writeup).read_bytes().startswith(b"%PDF-"):
        raise UserError(f"--writeup_pdf {writeup}: not a PDF; name the write-up")
    replaced = official_files(official) if official else {}
    ours = [name for name in (*ENTRIES, REQUIREMENTS, *PROVIDED) if name not in replaced]
    missing = [name for name in dict.fromkeys(ours) if not (root / name).is_file()]
    if missing:
        raise UserError(f"{root}: lacks {', '.join(missing)}; run this in a whole checkout")
    names = reachable(ENTRIES, root, replaced) | set(module_files("src", root)) | {REQUIREMENTS}
    names |= {name for name in SPLITS if (root / name).is_file()}
    files = {name: root / name for name in names} | replaced
    files |= {CHECKPOINT: Path(checkpoint), CONFIG: Path(config)}
    return files | ({WRITEUP: Path(writeup)} if writeup else {})


def official_files(official):
    """{posix name: path} of the provided files in a checkout of the challenge."""
    official = Path(official)
    missing = [name for name in PROVIDED if not (official / name).is_file()]
    if missing:
        raise UserError(
            f"--official {official}: lacks {', '.join(missing)}; name a checkout of the challenge's"
            " repository"
        )
    splits = [name for name in SPLITS if (official / name).is_file()]
    return {name: official / name for name in (*PROVIDED, *splits)}


def sampler_names(folder):
    """Posix names of what a grader's sampler needs of the submission in `folder`."""
    code = reachable(["custom_model.py", "sampling.py"], folder) | set(module_files("src", folder))
    code = {name for name in code if Path(name).parts[0].removesuffix(".py") not in TRAINING_SIDE}
    return code | {CHECKPOINT, CONFIG}
