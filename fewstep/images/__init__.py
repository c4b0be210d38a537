"""Image sets for training: decoded once, kept as one uint8 file on disk, read by index.

What others may use, all of it from here: `open_image_sets` (flags -> `ImageSets` of two
`ImageCache`), `is_own_folder`, `with_splits`, and its parts `cached_images`, `decode_image`,
`draw_face`, `evenly`, `map_ordered`, `meant_by`, `names_by_id`, `read_split` and
`download_simpsons`.
"""

from fewstep.images.cache import ImageCache, ImageSets, cached_images, evenly
from fewstep.images.decode import decode_image
from fewstep.images.kaggle import download_simpsons
from fewstep.images.opening import ImageSource, is_own_folder, open_image_sets, with_splits
from fewstep.images.parallel import map_ordered
from fewstep.images.splits import meant_by, names_by_id, read_split
from fewstep.images.synthetic import draw_face

__all__ = [
    "ImageCache",
    "ImageSets",
    "ImageSource",
    "cached_images",
    "decode_image",
    "download_simpsons",
    "draw_face",
    "evenly",
    "is_own_folder",
    "map_ordered",
    "meant_by",
    "names_by_id",
    "open_image_sets",
    "read_split",
    "with_splits",
]
