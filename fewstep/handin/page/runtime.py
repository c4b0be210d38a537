"""onnxruntime-web, which runs the network in the browser: three files of a package of npm's."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fewstep.handin.page.onnx_model import PURPOSE
from src.errors import package_for
from src.utils import UserError, file_digest

PACKAGE, VERSION = "onnxruntime-web", "1.22.0"
# The build without WebGPU, each file with its SHA-256: another content is not taken.
FILES = {
    "ort.wasm.min.mjs": "6ef726f355b791129f7ddf3f62e7877a16b9b777abe87004b8ab306e6b9cf265",
    "ort-wasm-simd-threaded.mjs": (
        "30dd851d9c00622940500f71ddd2ff8820c5cb65270816080175b958705385a8"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "71aef04959c5c1b6de461b6538e2058e306610034a85aad2742d0c7fd4533fe4"
    ),
}
# Names in Python's package: names here, by which browsers know them as text.
LICENCES = {"LICENSE": "LICENSE.txt", "ThirdPartyNotices.txt": "ThirdPartyNotices.txt"}
BY_HAND = f"--runtime_dir DIR names a folder where npm pack {PACKAGE}@{VERSION} is unpacked"


def take_runtime(target, source=None):
    """Copy the runtime and its licences into the folder `target`.

    source: a folder that has the package or its files; None: npm is asked for the package. Raises
    `UserError` where that fails, or a file is not the one that is pinned.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            _copy(_packed(Path(folder)), target)
    else:
        _copy(Path(source), target)
    # npm's package has no licence file; Python's, of the same sources, has all notices.
    notices = Path(package_for(PURPOSE, "onnxruntime").__file__).parent
    for name, own_name in LICENCES.items():
        if not (notices / name).is_file():
            raise UserError(f"{notices}: lacks {name}; pip install --force-reinstall onnxruntime")
        shutil.copyfile(notices / name, target / own_name)


def _copy(source, target):
    for name, digest in FILES.items():
        places = (source / "package" / "dist", source / "dist", source)
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is None:
            raise UserError(f"{source}: has no {name} of {PACKAGE} {VERSION}; {BY_HAND}")
        if file_digest(found).hex() != digest:
            raise UserError(f"{found}: not that of {PACKAGE} {VERSION} (SHA-256); {BY_HAND}")
        shutil.copyfile(found, target / name)


def _packed(folder):
    """Let npm fetch the package into `folder`; returns the folder with its files."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"{PACKAGE} {VERSION} is needed, and npm is not here; {BY_HAND}")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--loglevel=error"]
    command += ["--fetch-retries=1", f"--pack-destination={folder}"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    archive = folder / f"{PACKAGE}-{VERSION}.tgz"
    if ended.returncode or not archive.is_file():
        raise UserError(f"npm cannot fetch {PACKAGE} {VERSION}{_reason(ended.stderr)}; {BY_HAND}")
    with tarfile.open(archive) as packed:
        for name in FILES:
            member = packed.extractfile(f"package/dist/{name}")
            with open(folder / name, "wb") as file:
                shutil.copyfileobj(member, file)
    return folder


def _reason(stderr):
    """What npm says first, its kind of error, in brackets, or nothing."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f" ({lines[0]})" if lines else ""
