"""Image sets for training: decoded once, kept as one uint8 file on disk, read by index."""

from imagesets.cache import ImageCache
from imagesets.opening import ImageSets, open_image_sets

__all__ = ["ImageCache", "ImageSets", "open_image_sets"]
