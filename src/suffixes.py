"""Which files are images, by the end of their names: all programs look here."""

# Training reads these, whatever the case of the letters. Where two files of a split share an id,
# the earlier suffix is preferred.
TRAINING_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

# Scores count these, case included, because clean-fid does: every feature space sees one set.
SCORED_SUFFIXES = {".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SCORED_SUFFIXES |= {".JPEG", ".JPG", ".PNG"}
