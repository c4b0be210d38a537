"""Which contents turned out not to be images, so that they are not tried again at every start."""

import PIL

from fewstep.images.decode import DECODE_VERSION
from fewstep.images.messages import writing
from src.utils import UserError, read_json, write_json

# Another decoder may be able to read them.
DECODER = f"rules v{DECODE_VERSION}, Pillow {PIL.__version__}"


def read_undecodable(path):
    """`{SHA-256 of a file's content (32 bytes): why it cannot be decoded}`, as remembered in
    `path`; nothing where that is absent, damaged or of another decoder."""
    try:
        note = read_json(path)
        if note["decoder"] != DECODER:
            return {}
        return {bytes.fromhex(content): str(why) for content, why in note["reasons"].items()}
    except (UserError, KeyError, AttributeError, TypeError, ValueError):
        return {}  # costs decoding them once more, nothing else


def write_undecodable(path, reasons):
    """Remember `{content: reason}` in `path`. Raises `UserError` when it cannot be written."""
    texts = {content.hex(): why for content, why in reasons.items()}
    with writing(path):
        write_json(path, {"decoder": DECODER, "reasons": texts})
