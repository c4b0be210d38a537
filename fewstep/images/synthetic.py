"""Cartoon faces drawn by a program: a data set that needs no download and no licence.

Few colours, bold outlines and large features, so that a small network learns them in minutes; seven
hair styles, free pose, gaze, mouth and clothes, so that there is something to cover.
"""

import math
import random
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

# Part of the caches' key: raise it whenever the drawing changes.
GENERATOR_VERSION = 1

SUPERSAMPLING = 4
INK = (38, 30, 34)
WHITE = (252, 252, 250)
BACKGROUNDS = (
    (134, 200, 236), (247, 190, 196), (176, 220, 160), (236, 226, 196),
    (186, 172, 220), (110, 178, 178), (240, 168, 112), (206, 210, 216),
)  # fmt: skip
SKINS = ((255, 213, 50),) * 5 + ((255, 226, 110), (196, 134, 78), (138, 90, 58))
HAIRS = (
    (60, 92, 190), (96, 62, 42), (214, 92, 42), (150, 150, 156),
    (44, 40, 46), (244, 236, 190), (120, 70, 150),
)  # fmt: skip
SHIRTS = (
    (224, 72, 60), (70, 150, 90), (64, 110, 196), (244, 244, 240),
    (232, 140, 48), (140, 84, 168), (72, 76, 88),
)  # fmt: skip


class _Pen:
    """Draws in face coordinates: the image is 1 wide, (0, 0) its centre, x to where the face looks.

    Everything goes through one rotation, scale, shift and mirroring, hence ellipses are polygons.
    """

    def __init__(self, size, background, pose):
        self.width = size * SUPERSAMPLING
        self.image = Image.new("RGB", (self.width, self.width), background)
        self.draw = ImageDraw.Draw(self.image)
        self.pose = pose

    def place(self, points):
        side, angle, scale, dx, dy = self.pose
        c, s = math.cos(angle) * scale, math.sin(angle) * scale
        turned = [(side * (c * x - s * y) + dx, s * x + c * y + dy) for x, y in points]
        return [
            (self.width / 2 + self.width * x, self.width / 2 + self.width * y) for x, y in turned
        ]

    def shape(self, points, fill, ink=0.026):
        placed = self.place(points)
        self.draw.polygon(placed, fill=fill)
        if ink:
            self.stroke(placed + placed[:2], ink)

    def line(self, points, ink=0.026, color=INK):
        placed = self.place(points)
        self.stroke(placed, ink, color)
        radius = ink * self.width / 2
        for x, y in (placed[0], placed[-1]):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def stroke(self, placed, ink, color=INK):
        self.draw.line(placed, fill=color, width=round(ink * self.width), joint="curve")

    def ellipse(self, x, y, rx, ry, fill, ink=0.026):
        self.shape(_arc(x, y, rx, ry, 0, 360), fill, ink)


def _arc(x, y, rx, ry, start, end, steps=32):
    """Points of an elliptic arc; angles in degrees, 0 to the right, 90 down."""
    angles = [math.radians(start + (end - start) * k / steps) for k in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def draw_face(index, seed, size=64):
    """Face number `index` of series `seed` as a uint8 array `[size, size, 3]` (RGB).

    The same for the same arguments: neither earlier calls nor global random states matter.
    """
    # Of Python's generator, `random()` alone is promised to stay the same between versions.
    rng = random.Random(f"{seed}/{index}")

    def pick(options):
        return options[int(rng.random() * len(options))]

    def between(low, high):
        return low + (high - low) * rng.random()

    side = pick((-1, 1))
    tilt, scale = between(-0.14, 0.14), between(1.04, 1.28)
    pose = (side, tilt, scale, between(-0.05, 0.05), between(0.02, 0.09))
    pen = _Pen(size, pick(BACKGROUNDS), pose)
    skin, hair, (behind, in_front) = pick(SKINS), pick(HAIRS), pick(STYLES)
    width, top = between(0.21, 0.25), between(-0.3, -0.24)
    turn = between(0.02, 0.075)

    _shirt(pen, pick(SHIRTS), skin)
    if behind:
        behind(pen, hair, width, top)
    _head(pen, skin, width, top)
    if in_front:
        in_front(pen, hair, width, top)
    _mouth(pen, pick(MOUTHS), turn, between(0.1, 0.135))
    _eyes(pen, skin, turn, between(0.088, 0.108), between(-1, 1), between(-1, 1), pick((0, 0.3)))
    pen.ellipse(turn + 0.075, 0.055, between(0.055, 0.075), 0.042, skin)
    tilt = pick((None, None, -0.05, 0.0, 0.05))
    if tilt is not None:
        _brows(pen, tilt, turn)
    return np.array(pen.image.reduce(SUPERSAMPLING))


def _shirt(pen, color, skin):
    shoulder = [(0.12, 0.38), (0.32, 0.46), (0.36, 0.8)]
    pen.shape([(-x, y) for x, y in reversed(shoulder)] + shoulder, color)
    pen.shape([(-0.11, 0.2), (0.1, 0.2), (0.1, 0.4), (0.0, 0.45), (-0.11, 0.4)], skin)


def _head(pen, skin, width, top):
    crown = _arc(0, top + 0.18, width, 0.18, 180, 360)
    chin = _arc(0.02, 0.16, width - 0.01, 0.17, 0, 180)
    pen.shape(crown + chin, skin)
    pen.ellipse(-width, 0.06, 0.052, 0.06, skin)
    pen.line(_arc(-width, 0.065, 0.022, 0.028, 150, 330, 12), 0.018)
    # The ear's outline must not cross the cheek.
    pen.ellipse(-width + 0.05, 0.06, 0.026, 0.045, skin, ink=0)


def _eyes(pen, skin, turn, radius, look_x, look_y, lid):
    for x in (turn - 0.092, turn + 0.096):
        pen.ellipse(x, -0.045, radius, radius, WHITE)
        px, py = x + 0.5 * radius * look_x, -0.045 + 0.35 * radius * look_y
        pen.ellipse(px, py, 0.024, 0.024, INK, ink=0)
        if lid:
            start = math.degrees(math.asin(lid))
            pen.shape(_arc(x, -0.045, radius, radius, 180 + start, 360 - start), skin)


def _brows(pen, tilt, turn):
    for x, rise in ((turn - 0.1, tilt / 2), (turn + 0.11, -tilt / 2)):
        pen.line([(x - 0.06, -0.185 - rise), (x + 0.06, -0.185 + rise)], 0.034)


def _mouth(pen, kind, turn, half):
    x, y = turn + 0.01, 0.19
    if kind == "smile":
        pen.line(_arc(x, y - 0.02, half, 0.07, 15, 165))
    elif kind == "frown":
        pen.line(_arc(x, y + 0.065, half, 0.06, 195, 345))
    elif kind == "flat":
        pen.line([(x - half, y + 0.02), (x + half, y + 0.01)])
    elif kind == "grin":
        pen.shape(_arc(x, y - 0.025, half, 0.105, 0, 180), WHITE)
        pen.line([(x - half * 0.85, y + 0.02), (x + half * 0.85, y + 0.02)], 0.014)
    else:
        pen.ellipse(x, y + 0.025, half * 0.75, 0.07, (120, 30, 40))
        pen.ellipse(x, y + 0.06, half * 0.42, 0.025, (232, 110, 110), ink=0)


# Hair behind the head and in front of it: (pen, colour, half width of the head, its top).
def _spikes(pen, color, width, top):
    points, step = [(-width, top + 0.2)], 2 * width / 5
    for left in (-width + step * k for k in range(5)):
        points += [(left + step / 2, top - 0.13), (left + step, top)]
    pen.shape([*points[:-1], (width, top + 0.2)], color)


def _tower(pen, color, width, top):
    crown = _arc(-0.02, top - 0.06, width * 0.86, 0.12, 180, 360)
    pen.shape([*crown, (width, top + 0.2), (-width, top + 0.2)], color)


def _bob(pen, color, width, top):
    pen.ellipse(-0.03, 0.0, width + 0.1, 0.36, color)


def _flat_top(pen, color, width, top):
    left, right = -width - 0.015, width + 0.015
    sides = [(left, 0.17), (left - 0.02, -0.06), (right + 0.01, -0.06), (right, 0.13), (0, 0.08)]
    pen.shape([(x, top + y) for x, y in sides], color)


def _curls(pen, color, width, top):
    for ink in (0.026, 0):
        for angle in map(math.radians, range(170, 371, 25)):
            x, y = (width + 0.01) * math.cos(angle), top + 0.16 + 0.2 * math.sin(angle)
            pen.ellipse(x, y, 0.1, 0.1 * 0.9, color, ink)


def _tuft(pen, color, width, top):
    for lean in (-0.09, 0.0, 0.09):
        left, right = lean / 2 - 0.04, lean / 2 + 0.04
        pen.shape([(left, top + 0.05), (lean, top - 0.12), (right, top + 0.05)], color)


def _sideburn(pen, color, width, top):
    pen.shape([(-width, 0.0), (-width + 0.02, -0.12), (-width + 0.07, -0.02)], color)


def _parting(pen, color, width, top):
    swoop = _arc(0.0, top + 0.15, width + 0.02, 0.21, 175, 350)
    pen.shape(swoop + [(0.1, top + 0.07), (-0.1, top + 0.16), (-width + 0.03, 0.0)], color)


def _fringe(pen, color, width, top, depth):
    crown = _arc(0, top + 0.18, width, 0.18, 190, 350)
    pen.shape(crown + _arc(0, top + 0.16, width * 0.9, depth * 0.5 - 0.06, 350, 190), color)


STYLES = (
    (_spikes, None),
    (_tower, partial(_fringe, depth=0.06)),
    (_bob, partial(_fringe, depth=0.1)),
    (None, _flat_top),
    (_curls, partial(_fringe, depth=0.04)),
    (_tuft, _sideburn),
    (None, _parting),
)
MOUTHS = ("smile", "frown", "flat", "grin", "open")
