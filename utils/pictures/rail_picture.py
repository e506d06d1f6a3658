"""Draws one step of an episode with Pillow: rails, trains, stations, and a header that counts the trains."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from utils.pictures.colours import (
    BACKGROUND,
    DEADLOCK_COLOUR,
    DONE_COLOUR,
    INK,
    LATE_COLOUR,
    MALFUNCTION_COLOUR,
    RUNNING_COLOUR,
    STANDING_COLOUR,
    Colour,
    policy_colour,
    train_colour,
)
from utils.pictures.rail_map import BALLAST, draw_rails, part_with_rails
from utils.pictures.sprites import font, number_sprite, station_sprite, train_sprite, waiting_sprite
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import DONE, MALFUNCTION, MALFUNCTION_OFF_MAP, READY_TO_DEPART, STOPPED, WAITING

OFF_MAP_STATES = (WAITING, READY_TO_DEPART, MALFUNCTION_OFF_MAP)
MALFUNCTION_STATES = (MALFUNCTION_OFF_MAP, MALFUNCTION)
_WHITE = (255, 255, 255)
_MARGIN = 8  # pixels
_LINE = 18  # pixels, of the header
_MIN_WIDTH = 520  # pixels; the header needs them


@dataclass(frozen=True, slots=True)
class TrainSnapshot:
    """One train at one step."""

    state: int  # flatland's TrainState as a number
    cell: tuple[int, int] | None  # row, column, or None off the map
    direction: int  # 0 to 3, north, east, south, west; of the initial position while off the map
    deadlocked: bool  # whether it can never move again
    delay: int = 0  # steps after its latest arrival at which it has arrived, or cannot arrive before any more


@dataclass(frozen=True, slots=True)
class StepSnapshot:
    """All trains at one step, and the step's number."""

    step: int
    trains: tuple[TrainSnapshot, ...]


class LevelPicture:
    """Draws snapshots of one level. What does not change between steps is drawn once.

    Args:
        state: of the level; map, initial positions and targets are read.
        title: text above the map.
        policy_of_train: int [trains]; trains and their targets then have the colours of their policies, and the header
            says which is which. None: each train has a colour of its own.
        cell_size: pixels; None fits the part of the map that has rails into about 500 pixels.
    """

    def __init__(
        self,
        state: RailState,
        title: str = "",
        policy_of_train: NDArray[np.int64] | None = None,
        cell_size: int | None = None,
    ) -> None:
        rows, columns = part_with_rails(state.grid)
        grid = state.grid[rows, columns]
        self._cell = cell_size or max(5, min(28, 500 // max(grid.shape)))
        self._first = (rows.start, columns.start)
        cells = zip(state.initial_row.tolist(), state.initial_column.tolist(), strict=True)
        self._initial: list[tuple[int, int]] = list(cells)
        self._max_steps = state.max_episode_steps
        self._title = title
        handles = range(state.n_trains)
        self._colours = [
            train_colour(h) if policy_of_train is None else policy_colour(policy_of_train[h]) for h in handles
        ]
        self._policies = () if policy_of_train is None else _legend(policy_of_train)
        self._trains_to: dict[tuple[int, int], list[int]] = {}
        for handle, target in enumerate(zip(state.target_row.tolist(), state.target_column.tolist(), strict=True)):
            self._trains_to.setdefault(target, []).append(handle)
        height, width = (cells * self._cell for cells in grid.shape)
        self._width = max(_MIN_WIDTH, width + 2 * _MARGIN)
        self._width += self._width % 2
        self.left = (self._width - width) // 2
        self._header = 8 + _LINE * (4 if self._policies else 3)
        self.top = self._header + _MARGIN  # pixels from the picture's edges to the map
        full_height = self.top + height + _MARGIN
        self._empty = Image.new("RGB", (self._width, full_height + full_height % 2), BACKGROUND)
        self._empty.paste(draw_rails(grid, self._cell), (self.left, self.top))

    def draw(self, snapshot: StepSnapshot, final: bool = False) -> Image.Image:
        """The picture of a step, RGB, with even width and height.

        Args:
            snapshot: the step.
            final: whether it is what came of the episode: trains off the map have never departed.
        """
        picture = self._empty.copy()
        self._draw_header(ImageDraw.Draw(picture), snapshot, final)
        for cell, handles in self._trains_to.items():
            expected = [self._colours[h] for h in handles if snapshot.trains[h].state != DONE]
            # stripes of equal colours are one; a station has no room for dozens
            self._paste(picture, station_sprite(self._cell, tuple(dict.fromkeys(expected))), cell)
        for handle, train in enumerate(snapshot.trains):
            if train.cell is not None:
                colour, late = self._colours[handle], train.delay > 0
                sprite = train_sprite(self._cell, colour, train.direction, _mark(train), str(handle), late)
                self._paste(picture, sprite, train.cell)
        self._draw_waiting(picture, snapshot.trains, final)
        return picture

    def corner_of(self, cell: tuple[int, int]) -> tuple[int, int]:
        """Column and row of the upper left pixel of a cell of the map."""
        row, column = self._first
        return self.left + (cell[1] - column) * self._cell, self.top + (cell[0] - row) * self._cell

    def _draw_waiting(self, picture: Image.Image, trains: Sequence[TrainSnapshot], final: bool) -> None:
        """One arrow for each cell in which trains will start, or a number beside the train that is there now."""
        waiting: dict[tuple[int, int], list[int]] = {}
        for handle, (cell, train) in enumerate(zip(self._initial, trains, strict=True)):
            if train.cell is None and train.state in OFF_MAP_STATES:
                waiting.setdefault(cell, []).append(handle)
        held = {train.cell for train in trains}
        for cell, handles in waiting.items():
            # what the header counts is seen: one broken train among them marks all
            broken = not final and any(trains[h].state == MALFUNCTION_OFF_MAP for h in handles)
            if cell in held:
                self._paste(picture, number_sprite(self._cell, len(handles), broken), cell)
                continue
            late = any(trains[h].delay > 0 for h in handles)
            colour, direction = self._colours[handles[0]], trains[handles[0]].direction
            self._paste(picture, waiting_sprite(self._cell, colour, direction, len(handles), broken, late), cell)

    def _paste(self, picture: Image.Image, sprite: Image.Image, cell: tuple[int, int]) -> None:
        offset = (sprite.width - self._cell) // 2  # sprites are larger than a cell
        left, top = self.corner_of(cell)
        picture.paste(sprite, (left - offset, top - offset), sprite)

    def _draw_header(self, draw: ImageDraw.ImageDraw, snapshot: StepSnapshot, final: bool) -> None:
        step = f"step {snapshot.step} / {self._max_steps}"
        draw.text((self._width - _MARGIN, 4), step, fill=INK, font=font(13), anchor="ra")
        room = self._width - 3 * _MARGIN - round(font(13).getlength(step))
        draw.text((_MARGIN, 4), _shorten(self._title, room), fill=INK, font=font(13))
        late = sum(train.delay > 0 for train in snapshot.trains)
        home = sum(train.state == DONE for train in snapshot.trains)
        delay = sum(train.delay for train in snapshot.trains)
        counts = count_trains(snapshot.trains, final)
        totals = (
            (f"home {home}/{len(snapshot.trains)}", DONE_COLOUR),
            (f"late {late}, delay {delay} steps", LATE_COLOUR),
        )
        self._draw_entries(draw, 1, totals)
        self._draw_entries(draw, 2, [(f"{name} {count}", colour) for name, colour, count in counts])
        self._draw_entries(draw, 3, self._policies)
        draw.line((0, self._header - 2, self._width, self._header - 2), fill=BALLAST)

    def _draw_entries(self, draw: ImageDraw.ImageDraw, line: int, entries: Sequence[tuple[str, Colour]]) -> None:
        """Texts behind dots, as far as there is room."""
        x, y = float(_MARGIN), 4 + _LINE * line
        letters = font(12)
        for text, colour in entries:
            if x + 12 + letters.getlength(text) > self._width:
                draw.text((x, y + 7), "...", fill=INK, font=letters, anchor="lm")
                return
            draw.ellipse((x, y + 3, x + 8, y + 11), fill=colour, outline=INK)
            draw.text((x + 12, y + 7), text, fill=INK, font=letters, anchor="lm")
            x += 12 + letters.getlength(text) + 10


def count_trains(trains: Sequence[TrainSnapshot], final: bool = False) -> list[tuple[str, Colour, int]]:
    """What the header shows of the trains that are not home: label, colour, number. Each train counts once.

    In the course of an episode trains wait off the map; at its end those have never departed.
    """
    off_map = "never departed" if final else "waiting"
    colours: dict[str, Colour] = {
        off_map: _WHITE,
        "running": RUNNING_COLOUR,
        "standing": STANDING_COLOUR,
        "malfunction": MALFUNCTION_COLOUR,
        "deadlocked": DEADLOCK_COLOUR,
    }
    groups = Counter(_group_of(train, off_map, final) for train in trains if train.state != DONE)
    return [(name, colour, groups[name]) for name, colour in colours.items()]


def _group_of(train: TrainSnapshot, off_map: str, final: bool) -> str:
    is_off_map = train.state in OFF_MAP_STATES
    if train.deadlocked:
        return "deadlocked"
    if train.state in MALFUNCTION_STATES and not (final and is_off_map):
        return "malfunction"
    if is_off_map:
        return off_map
    return "standing" if train.state == STOPPED else "running"


def _legend(policy_of_train: NDArray[np.int64]) -> list[tuple[str, Colour]]:
    policies, counts = np.unique(policy_of_train, return_counts=True)
    return [
        (f"policy {policy}: {count} train" + "s" * (count > 1), policy_colour(policy))
        for policy, count in zip(policies.tolist(), counts.tolist(), strict=True)
    ]


def _mark(train: TrainSnapshot) -> str:
    if train.deadlocked:
        return "deadlock"
    if train.state == STOPPED:
        return "standing"
    return "malfunction" if train.state in MALFUNCTION_STATES else ""


def _shorten(text: str, width: int) -> str:
    if font(13).getlength(text) <= width:
        return text
    while text and font(13).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..." if text else ""
