"""Draws one step of an episode with Pillow: rails, trains, stations, and a header that counts the trains."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from utils.simulator.rail_state import DONE, MALFUNCTION, MALFUNCTION_OFF_MAP, READY_TO_DEPART, STOPPED, WAITING

_OFF_MAP_STATES = (WAITING, READY_TO_DEPART, MALFUNCTION_OFF_MAP)
_MALFUNCTION_STATES = (MALFUNCTION_OFF_MAP, MALFUNCTION)

_BACKGROUND = (250, 249, 246)
_GRID_LINE = (238, 236, 230)
_BALLAST = (221, 216, 206)
RAIL_COLOUR = (112, 108, 102)
_INK = (40, 42, 46)
MALFUNCTION_COLOUR = (255, 176, 0)
DEADLOCK_COLOUR = (200, 16, 46)
STANDING_COLOUR = (120, 190, 240)
DONE_COLOUR = (150, 150, 146)
# What is drawn is drawn larger by this factor and reduced, which smooths the edges.
_OVERSAMPLING = 4
HEADER_HEIGHT = 44  # pixels


@dataclass(frozen=True)
class TrainSnapshot:
    """One train at one step.

    Attributes:
        state: flatland's TrainState as a number.
        cell: row, column, or None off the map.
        direction: 0 to 3, north, east, south, west; of the initial position while off the map.
        deadlocked: whether it can never move again.
    """

    state: int
    cell: tuple[int, int] | None
    direction: int
    deadlocked: bool


@dataclass(frozen=True)
class StepSnapshot:
    """All trains at one step, and the step's number."""

    step: int
    trains: tuple[TrainSnapshot, ...]


class LevelPicture:
    """Draws snapshots of one level. What does not change between steps is drawn once.

    Args:
        grid: uint16 [height, width], flatland's transition bits.
        initial: per train its first cell and direction.
        targets: per train its target cell.
        max_steps: the step at which the episode ends.
        title: text above the map.
        cell_size: pixels.
    """

    def __init__(
        self,
        grid: NDArray[np.uint16],
        initial: list[tuple[tuple[int, int], int]],
        targets: list[tuple[int, int]],
        max_steps: int,
        title: str,
        cell_size: int,
    ) -> None:
        self._cell = cell_size
        self._initial = initial
        self._max_steps = max_steps
        self._title = title
        self._colours = [train_colour(handle) for handle in range(len(targets))]
        self._trains_to: dict[tuple[int, int], list[int]] = {}
        for handle, target in enumerate(targets):
            self._trains_to.setdefault(target, []).append(handle)
        height, width = grid.shape
        map_width, map_height = width * cell_size, height * cell_size
        self._width = max(360, map_width) + max(360, map_width) % 2
        self._left = (self._width - map_width) // 2
        full_height = HEADER_HEIGHT + map_height + map_height % 2
        self._empty = Image.new("RGB", (self._width, full_height), _BACKGROUND)
        self._empty.paste(draw_rails(grid, cell_size), (self._left, HEADER_HEIGHT))

    def draw(self, snapshot: StepSnapshot, final: bool = False) -> Image.Image:
        """The picture of a step, RGB, with even width and height.

        Args:
            snapshot: the step.
            final: whether it is what came of the episode: trains that stand on the map are marked, and those off the
                map have never departed.
        """
        picture = self._empty.copy()
        self._draw_header(ImageDraw.Draw(picture), snapshot, final)
        for cell, handles in self._trains_to.items():
            waited_for = tuple(self._colours[h] for h in handles if snapshot.trains[h].state != DONE)
            self._paste(picture, _station_sprite(self._cell, waited_for), cell)
        for (cell, direction), train, colour in zip(self._initial, snapshot.trains, self._colours, strict=True):
            if train.cell is None and train.state in _OFF_MAP_STATES:
                self._paste(picture, _waiting_sprite(self._cell, colour, direction), cell)
        for handle, train in enumerate(snapshot.trains):
            if train.cell is not None:
                sprite = train_sprite(
                    self._cell, self._colours[handle], train.direction, _mark(train, final), str(handle)
                )
                self._paste(picture, sprite, train.cell)
        return picture

    def _paste(self, picture: Image.Image, sprite: Image.Image, cell: tuple[int, int]) -> None:
        # Sprites are larger than a cell, so that trains stay visible on large maps.
        offset = (sprite.width - self._cell) // 2
        at = (self._left + cell[1] * self._cell - offset, HEADER_HEIGHT + cell[0] * self._cell - offset)
        picture.paste(sprite, at, sprite)

    def _draw_header(self, draw: ImageDraw.ImageDraw, snapshot: StepSnapshot, final: bool) -> None:
        margin = 8
        step = f"step {snapshot.step} / {self._max_steps}"
        draw.text((self._width - margin, 4), step, fill=_INK, font=_font(13), anchor="ra")
        room = self._width - 3 * margin - round(_font(13).getlength(step))
        draw.text((margin, 4), _shorten(self._title, room), fill=_INK, font=_font(13))
        x = float(margin)
        entries = count_trains(snapshot.trains, final)
        font = _font(12 if self._width >= 480 else 10)
        for label, colour, count in entries:
            text = f"{label} {count}"
            draw.ellipse((x, 27, x + 8, 35), fill=colour, outline=_INK)
            draw.text((x + 12, 31), text, fill=_INK if count else DONE_COLOUR, font=font, anchor="lm")
            x += 12 + font.getlength(text) + 10
        draw.line((0, HEADER_HEIGHT - 2, self._width, HEADER_HEIGHT - 2), fill=_BALLAST)


def count_trains(trains: Sequence[TrainSnapshot], final: bool = False) -> list[tuple[str, tuple[int, int, int], int]]:
    """What the header shows: label, colour, number of trains. Each train counts once.

    In the course of an episode trains wait off the map; at its end, those on the map wait, the others never departed.
    """
    off_map = "never departed" if final else "waiting"
    groups = {off_map: 0, "running": 0, "waiting": 0, "malfunction": 0, "deadlocked": 0, "arrived": 0}
    for train in trains:
        if train.state == DONE:
            groups["arrived"] += 1
        elif train.deadlocked:
            groups["deadlocked"] += 1
        elif final and train.state in _OFF_MAP_STATES:
            groups[off_map] += 1
        elif train.state in _MALFUNCTION_STATES:
            groups["malfunction"] += 1
        elif train.state in _OFF_MAP_STATES:
            groups[off_map] += 1
        elif final and train.state == STOPPED:
            groups["waiting"] += 1
        else:
            groups["running"] += 1
    colours = {
        off_map: (255, 255, 255),
        "running": (70, 130, 180),
        "malfunction": MALFUNCTION_COLOUR,
        "deadlocked": DEADLOCK_COLOUR,
        "arrived": DONE_COLOUR,
    }
    if final:
        colours["waiting"] = STANDING_COLOUR
    return [(name, colours[name], count) for name, count in groups.items()]


def _mark(train: TrainSnapshot, final: bool) -> str:
    if train.deadlocked:
        return "deadlock"
    if final and train.state == STOPPED:
        return "standing"
    return "malfunction" if train.state in _MALFUNCTION_STATES else ""


def train_colour(handle: int) -> tuple[int, int, int]:
    """Colours that stay apart for neighbouring handles: the golden ratio spreads hues, three shades do the rest."""
    hue = (0.58 + handle * 0.61803398875) % 1.0
    saturation, value = ((0.62, 0.80), (0.75, 0.62), (0.45, 0.88))[handle % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


# Where the middle of a cell's side lies, as (x, y) in cells, for north, east, south, west.
_SIDES = ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5))


def _track_points(side: int, other: int) -> list[tuple[float, float]]:
    """The track between two sides of a cell as a line of points in cells: straight, or a quarter of a circle."""
    (x0, y0), (x1, y1) = _SIDES[side], _SIDES[other]
    if (side + other) % 2 == 0:
        return [(x0, y0), (x1, y1)]
    # The circle's centre is the corner that the two sides share.
    cx = x0 + x1 - 0.5
    cy = y0 + y1 - 0.5
    start, end = math.atan2(y0 - cy, x0 - cx), math.atan2(y1 - cy, x1 - cx)
    turn = (end - start + math.pi) % (2 * math.pi) - math.pi
    angles = [start + turn * i / 6 for i in range(7)]
    return [(cx + 0.5 * math.cos(a), cy + 0.5 * math.sin(a)) for a in angles]


def _tracks_of(cell: int) -> list[tuple[int, int]]:
    """Pairs of sides that a cell's transition bits join; a dead end joins a side with itself."""
    tracks = set()
    for heading in range(4):
        for exit_side in range(4):
            if cell >> (15 - 4 * heading - exit_side) & 1:
                entry_side = (heading + 2) % 4
                tracks.add((min(entry_side, exit_side), max(entry_side, exit_side)))
    return sorted(tracks)


def draw_rails(grid: NDArray[np.uint16], cell_size: int) -> Image.Image:
    """The map without trains. Large maps are drawn with less oversampling, to bound the memory."""
    height, width = grid.shape
    scale = cell_size * (_OVERSAMPLING if grid.size * cell_size**2 < 1_500_000 else 2)
    picture = Image.new("RGB", (width * scale, height * scale), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    thin = max(1, scale // cell_size)
    for column in range(width + 1):
        draw.line((column * scale, 0, column * scale, height * scale), fill=_GRID_LINE, width=thin)
    for row in range(height + 1):
        draw.line((0, row * scale, width * scale, row * scale), fill=_GRID_LINE, width=thin)
    lines = []
    for row, column in np.argwhere(grid).tolist():
        for side, other in _tracks_of(int(grid[row, column])):
            points = [_SIDES[side], (0.5, 0.5)] if side == other else _track_points(side, other)
            lines.append([((column + x) * scale, (row + y) * scale) for x, y in points])
    # All ballast first, so that no track's ballast covers another track's rails.
    for colour, share in ((_BALLAST, 0.46), (RAIL_COLOUR, 0.15)):
        for line in lines:
            draw.line(line, fill=colour, width=max(thin, round(share * scale)), joint="curve")
    return picture.resize((width * cell_size, height * cell_size), Image.Resampling.LANCZOS)


def _sprite_size(cell_size: int) -> int:
    """Pixels; wider than a cell, by an even number so that its centre is the cell's."""
    return cell_size + 2 * max(2, cell_size // 6)


def _new_sprite(cell_size: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    scale = _sprite_size(cell_size) * _OVERSAMPLING
    sprite = Image.new("RGBA", (scale, scale), (255, 255, 255, 0))
    return sprite, ImageDraw.Draw(sprite), scale


def _reduce(sprite: Image.Image) -> Image.Image:
    # Half-transparent edges would mix into hundreds of colours that a GIF's palette has no room for; BOX keeps the
    # number of levels small.
    return sprite.reduce(_OVERSAMPLING)


def _arrow(scale: int, direction: int, size: float) -> list[tuple[float, float]]:
    """A house with its roof towards ``direction``; ``size`` is the half-length in shares of the sprite."""
    points = ((0.0, -1.0), (0.78, -0.25), (0.78, 0.85), (-0.78, 0.85), (-0.78, -0.25))
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]
    return [
        (scale * (0.5 + size * (x * cosine - y * sine)), scale * (0.5 + size * (x * sine + y * cosine)))
        for x, y in points
    ]


@lru_cache(maxsize=2048)  # bounded: a training may record many episodes
def train_sprite(cell_size: int, colour: tuple[int, int, int], direction: int, mark: str, number: str) -> Image.Image:
    """A train: an arrow with its number, in front of its mark ("malfunction", "standing", "deadlock" or "")."""
    sprite, draw, scale = _new_sprite(cell_size)
    line = max(_OVERSAMPLING, scale // 20)
    # On large maps a mark is a few pixels: no outline there, and more room around the arrow.
    small = cell_size < 12
    border = None if small else _INK
    if mark in ("malfunction", "standing"):
        colour_of_mark = MALFUNCTION_COLOUR if mark == "malfunction" else STANDING_COLOUR
        draw.ellipse((0, 0, scale - 1, scale - 1), fill=colour_of_mark, outline=border, width=line // 2)
    elif mark == "deadlock":
        draw.rectangle((0, 0, scale - 1, scale - 1), fill=DEADLOCK_COLOUR, outline=border, width=line // 2)
    size = 0.44 if not mark else 0.24 if small else 0.36
    outline = _arrow(scale, direction, size)
    draw.polygon(outline, fill=colour, outline=_INK, width=line)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = _INK if luminance > 150 else (255, 255, 255)
    if mark == "deadlock" and not small:
        near, far = 0.39 * scale, 0.61 * scale
        for cross in ((near, near, far, far), (near, far, far, near)):
            draw.line(cross, fill=ink, width=2 * line)
    elif cell_size >= 14 and mark != "deadlock":
        text = "!" if mark == "malfunction" else number
        share = {1: 0.46, 2: 0.36}.get(len(text), 0.26)
        draw.text((scale / 2, scale / 2), text, fill=ink, font=_font(round(share * scale)), anchor="mm")
    return _reduce(sprite)


@lru_cache(maxsize=2048)
def _waiting_sprite(cell_size: int, colour: tuple[int, int, int], direction: int) -> Image.Image:
    """A train that has not departed: a hollow arrow at its first cell."""
    sprite, draw, scale = _new_sprite(cell_size)
    draw.polygon(_arrow(scale, direction, 0.34), fill=(255, 255, 255), outline=colour, width=max(4, scale // 12))
    return _reduce(sprite)


@lru_cache(maxsize=2048)
def _station_sprite(cell_size: int, colours: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """A target: a square in the colours of the trains still expected there; grey when all have come."""
    sprite, draw, scale = _new_sprite(cell_size)
    low, high = round(0.14 * scale), round(0.86 * scale)
    draw.rectangle((low, low, high, high), fill=_INK)
    line = max(_OVERSAMPLING, scale // 20)
    low, high = low + line, high - line
    stripes = colours or (DONE_COLOUR,)
    for index, colour in enumerate(stripes):
        left = low + (high - low) * index / len(stripes)
        right = low + (high - low) * (index + 1) / len(stripes)
        draw.rectangle((left, low, right, high), fill=colour)
    return _reduce(sprite)


@cache
def _font(size: int) -> Any:
    # Pillow brings this font along; system fonts differ from machine to machine, and a container has none.
    return ImageFont.load_default(size)


def _shorten(text: str, width: int) -> str:
    if _font(13).getlength(text) <= width:
        return text
    while text and _font(13).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..." if text else ""
