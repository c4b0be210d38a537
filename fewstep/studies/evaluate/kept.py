"""Samples and scores on disk, so that an evaluation that was interrupted goes on from them."""

import hashlib
import json
import zipfile
from typing import NamedTuple

import numpy as np

from src.utils import sweep_dead, whole_file

FORMAT = 1  # of scores: goes up when a score changes its meaning


class Part(NamedTuple):
    """What a series gave for one seed. images: all of them, uint8 `[N, H, W, 3]`, while `scores` is
    None; then the first ones, for pictures. digest: of all; seconds: that sampling took."""

    images: np.ndarray
    count: int
    digest: str
    seconds: float
    scores: dict | None = None


class Kept:
    """Parts in `folder`, each under a name made from all it depends on: `identity`, plain values
    that all share, the series and the seed. So what another setting gave is never taken. A folder
    of None keeps nothing."""

    def __init__(self, folder, identity):
        self.folder, self.identity = folder, {"format": FORMAT, **identity}
        self.used = set()
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            sweep_dead(folder)

    def get(self, series, seed):
        """The `Part` that is there, or None; a damaged file counts as absent."""
        if not self.folder:
            return None
        try:
            with np.load(self._path(series, seed)) as stored:
                facts = json.loads(str(stored["facts"]))
                return Part(stored["images"], **facts)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError):
            return None

    def put(self, series, seed, part):
        """Keep a `Part` in the place of what was there."""
        if not self.folder:
            return
        facts = {key: value for key, value in part._asdict().items() if key != "images"}
        with whole_file(self._path(series, seed)) as temporary, open(temporary, "wb") as file:
            np.savez(file, images=part.images, facts=json.dumps(facts))

    def describe(self, series, seeds):
        """A sentence on what is there of these series, "" where there is nothing at all."""
        if not self.folder:
            return ""
        pairs = [(one, seed) for one in series for seed in seeds]
        parts = [self.get(*pair) for pair in pairs]
        scored = sum(part is not None and part.scores is not None for part in parts)
        sampled = sum(part is not None for part in parts) - scored
        others = len(self._others({self._path(*pair) for pair in pairs}))
        if not scored + sampled + others:
            return ""
        text = f"{self.folder}: {scored} of {len(pairs)} sets of images are scored already"
        text += f", {sampled} sampled" if sampled else ""
        if others:
            text += f"; {others} that are there are of other settings and not used"
        return text

    def forget_others(self):
        """Remove what this evaluation did not use."""
        for path in self._others(self.used):
            path.unlink()

    def _others(self, paths):
        return set(self.folder.glob("*.npz")) - paths if self.folder else set()

    def _path(self, series, seed):
        identity = self.identity | series.identity | {"seed": seed}
        name = json.dumps(identity, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
        self.used.add(path)
        return path


NOTHING = Kept(None, {})
