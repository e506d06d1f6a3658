"""What moves and stands on a map, each drawn once with Pillow: trains, waiting trains, stations."""

from functools import cache, lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from utils.pictures.colours import (
    DEADLOCK_COLOUR,
    DONE_COLOUR,
    INK,
    LATE_COLOUR,
    MALFUNCTION_COLOUR,
    STANDING_COLOUR,
    Colour,
)
from utils.pictures.rail_map import OVERSAMPLING

_WHITE = (255, 255, 255)
_SMALL = 12  # pixels a cell; below, a mark is a few pixels: no outline then, and more room around the arrow


@cache
def font(size: int) -> Any:
    """Pillow brings this font along; system fonts differ from machine to machine, and a container has none."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)  # bounded: a training may record many episodes
def train_sprite(
    cell_size: int, colour: Colour, direction: int, mark: str, number: str, late: bool = False
) -> Image.Image:
    """A train: an arrow with its number, in front of its mark ("malfunction", "standing", "deadlock" or "")."""
    sprite, draw, scale = _new_sprite(cell_size)
    line = max(OVERSAMPLING, scale // 20)
    small = cell_size < _SMALL
    _draw_mark(draw, scale, mark, None if small else INK, line // 2)
    size = 0.44 if not mark else 0.24 if small else 0.36
    draw.polygon(_arrow(scale, direction, size), fill=colour, outline=INK, width=line)
    ink = _ink_on(colour)
    if mark == "deadlock" and not small:
        near, far = 0.39 * scale, 0.61 * scale
        for cross in ((near, near, far, far), (near, far, far, near)):
            draw.line(cross, fill=ink, width=2 * line)
    elif cell_size >= 14 and mark != "deadlock":
        _write(draw, scale, "!" if mark == "malfunction" else number, ink)
    if late:
        _draw_late(draw, scale)
    return _reduce(sprite)


@lru_cache(maxsize=2048)
def waiting_sprite(cell_size: int, colour: Colour, direction: int, n_trains: int, broken: bool, late: bool) -> Any:
    """Trains that have not departed from a cell: a hollow arrow, with their number if there are several."""
    sprite, draw, scale = _new_sprite(cell_size)
    small = cell_size < _SMALL
    if broken:
        _draw_mark(draw, scale, "malfunction", None if small else INK, scale // 40)
    draw.polygon(
        _arrow(scale, direction, 0.24 if broken and small else 0.36),
        fill=_WHITE,
        outline=colour,
        width=max(4, scale // 14),
    )
    if n_trains > 1 and cell_size >= 14:
        _write(draw, scale, f"x{n_trains}", INK)
    if late:
        _draw_late(draw, scale)
    return _reduce(sprite)


@lru_cache(maxsize=256)
def number_sprite(cell_size: int, n_trains: int, broken: bool) -> Image.Image:
    """How many trains wait for a cell that another one holds: a disc in the lower left corner."""
    sprite, draw, scale = _new_sprite(cell_size)
    box = (0, 0.56 * scale, 0.44 * scale, scale - 1)
    draw.ellipse(box, fill=MALFUNCTION_COLOUR if broken else _WHITE, outline=INK, width=scale // 40)
    if cell_size >= 14:
        draw.text((0.22 * scale, 0.78 * scale), str(n_trains), fill=INK, font=font(round(0.3 * scale)), anchor="mm")
    return _reduce(sprite)


@lru_cache(maxsize=2048)
def station_sprite(cell_size: int, colours: tuple[Colour, ...]) -> Image.Image:
    """A target: a square in the colours of the trains still expected there; grey when all have come."""
    sprite, draw, scale = _new_sprite(cell_size)
    low, high = round(0.14 * scale), round(0.86 * scale)
    draw.rectangle((low, low, high, high), fill=INK)
    line = max(OVERSAMPLING, scale // 20)
    low, high = low + line, high - line
    stripes = colours or (DONE_COLOUR,)
    for index, colour in enumerate(stripes):
        left = low + (high - low) * index / len(stripes)
        right = low + (high - low) * (index + 1) / len(stripes)
        draw.rectangle((left, low, right, high), fill=colour)
    return _reduce(sprite)


def _new_sprite(cell_size: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    # Wider than a cell, so that trains stay visible on large maps; by an even number, so that its centre is the cell's.
    scale = (cell_size + 2 * max(2, cell_size // 6)) * OVERSAMPLING
    sprite = Image.new("RGBA", (scale, scale), (255, 255, 255, 0))
    return sprite, ImageDraw.Draw(sprite), scale


def _reduce(sprite: Image.Image) -> Image.Image:
    # Half-transparent edges would mix into hundreds of colours that a GIF's palette has no room for; BOX keeps the
    # number of levels small.
    return sprite.reduce(OVERSAMPLING)


def _draw_mark(draw: ImageDraw.ImageDraw, scale: int, mark: str, border: Colour | None, line: int) -> None:
    box = (0, 0, scale - 1, scale - 1)
    if mark == "deadlock":
        draw.rectangle(box, fill=DEADLOCK_COLOUR, outline=border, width=line)
    elif mark:
        colour = MALFUNCTION_COLOUR if mark == "malfunction" else STANDING_COLOUR
        draw.ellipse(box, fill=colour, outline=border, width=line)


def _draw_late(draw: ImageDraw.ImageDraw, scale: int) -> None:
    """A dot in the upper right corner."""
    draw.ellipse((0.68 * scale, 0, scale - 1, 0.32 * scale), fill=LATE_COLOUR, outline=_WHITE, width=scale // 32)


def _write(draw: ImageDraw.ImageDraw, scale: int, text: str, ink: Colour) -> None:
    share = {1: 0.46, 2: 0.36}.get(len(text), 0.26)
    draw.text((scale / 2, scale / 2), text, fill=ink, font=font(round(share * scale)), anchor="mm")


def _ink_on(colour: Colour) -> Colour:
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return INK if luminance > 150 else _WHITE


def _arrow(scale: int, direction: int, size: float) -> list[tuple[float, float]]:
    """A house with its roof towards ``direction``; ``size`` is the half-length in shares of the sprite."""
    points = ((0.0, -1.0), (0.78, -0.25), (0.78, 0.85), (-0.78, 0.85), (-0.78, -0.25))
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]
    return [
        (scale * (0.5 + size * (x * cosine - y * sine)), scale * (0.5 + size * (x * sine + y * cosine)))
        for x, y in points
    ]
