"""Draws the rails of a map with Pillow."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from utils.pictures.colours import BACKGROUND

RAIL_COLOUR = (112, 108, 102)
BALLAST = (221, 216, 206)
_GRID_LINE = (238, 236, 230)
# What is drawn is drawn larger by this factor and reduced, which smooths the edges.
OVERSAMPLING = 4
# Where the middle of a cell's side lies, as (x, y) in cells, for north, east, south, west.
_SIDES = ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5))


def part_with_rails(grid: NDArray[np.uint16]) -> tuple[slice, slice]:
    """Rows and columns of the smallest part of a map that has all its rails, and one cell more on each side.

    Generators leave large parts of a map empty.
    """
    rows, columns = np.nonzero(grid)
    if not len(rows):
        return slice(0, grid.shape[0]), slice(0, grid.shape[1])
    return (
        slice(max(0, int(rows.min()) - 1), min(grid.shape[0], int(rows.max()) + 2)),
        slice(max(0, int(columns.min()) - 1), min(grid.shape[1], int(columns.max()) + 2)),
    )


def draw_rails(grid: NDArray[np.uint16], cell_size: int) -> Image.Image:
    """The map without trains. Large maps are drawn with less oversampling, to bound the memory."""
    height, width = grid.shape
    scale = cell_size * (OVERSAMPLING if grid.size * cell_size**2 < 1_500_000 else 2)
    picture = Image.new("RGB", (width * scale, height * scale), BACKGROUND)
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
    for colour, share in ((BALLAST, 0.46), (RAIL_COLOUR, 0.15)):
        for line in lines:
            draw.line(line, fill=colour, width=max(thin, round(share * scale)), joint="curve")
    return picture.resize((width * cell_size, height * cell_size), Image.Resampling.LANCZOS)


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
