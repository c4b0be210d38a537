"""What feature spaces share that work on pixels of images of one size."""

import numpy as np
import torch

from fewstep.scores.folders import load_images
from fewstep.scores.pixels import checked_images
from src.feedback import Progress


class PixelSpace:
    """Images -> features, batch by batch. Subclasses have `name`, `digest` and `dimension`, and
    `features_on(device, dtype)`: a function of grey levels `[B, 3, H, W]`, 0 to 255, that gives
    features `[B, D]`."""

    is_fid = False
    smallest_side = 1  # pixels
    batch_size = 256

    @torch.no_grad()
    def embed(self, images, batch_size=None, device="cpu"):
        """uint8 images `[N, H, W, 3]` -> float64 `[N, D]`.

        Raises `ValueError` for another shape or type, or sides below `smallest_side`.
        """
        images, device = checked_images(images), torch.device(device)
        if min(images.shape[1:3]) < self.smallest_side:
            least = self.smallest_side
            raise ValueError(f"images {images.shape}: height and width of at least {least}")
        # float32 convolutions on a GPU may run in TF32, whose error would show in the distance
        dtype = torch.float64 if device.type == "cuda" else torch.float32
        features_of, size = self.features_on(device, dtype), batch_size or self.batch_size
        features = np.empty((len(images), self.dimension))
        with Progress(f"features {self.name}", len(images)) as report:
            for start in range(0, len(images), size):
                batch = torch.from_numpy(images[start : start + size].copy()).to(device)
                grey_levels = batch.permute(0, 3, 1, 2).to(dtype)
                features[start : start + size] = features_of(grey_levels).double().cpu().numpy()
                report.update(len(batch))
        return features

    def embed_files(self, files, batch_size=None, device="cpu"):
        """The same for image files of one size. Raises `UserError` naming one that is not."""
        return self.embed(load_images(files), batch_size, device)
