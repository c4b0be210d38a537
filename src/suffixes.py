"""Which files are images, by the end of their names: all programs look here."""

# Whatever the case of the letters. Where two files of a split share an id, the earlier suffix is
# preferred.
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

# FID counts these of them alone, case included, because clean-fid does.
CLEANFIDS = {".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
CLEANFIDS |= {".JPEG", ".JPG", ".PNG"}
