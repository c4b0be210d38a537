"""Image sets for training: decoded once, kept as one uint8 file on disk, read by index."""

from fewstep.images.cache import ImageCache
from fewstep.images.opening import ImageSets, open_image_sets

__all__ = ["ImageCache", "ImageSets", "open_image_sets"]
