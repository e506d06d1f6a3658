"""Time-distance diagrams, as dispatchers draw them: time to the right, a line of track upwards, a curve for each train.

Curves of trains that run towards each other may only cross where there is a second track; a horizontal stretch is a
train that stands. One picture shows one line of a map: the shortest path that most trains share.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.pictures.colours import LATE_COLOUR, MALFUNCTION_COLOUR, as_hex, train_colour
from utils.pictures.rail_map import draw_rails, part_with_rails
from utils.simulator.rail_grid import MOVE_FORWARD, MOVE_LEFT, MOVE_RIGHT, possible_move
from utils.simulator.rail_state import RailState
from utils.system.files import atomic_write

Ways = Sequence[NDArray[np.int64]]
"""For each train int64 [n, 2]: the grid keys, 4 * (row * width + column) + direction, that it enters, and when."""

_BESIDE = 2  # cells; tracks no farther from the line belong to it
_JUMP = 2 * _BESIDE + 2  # cells; more at a time is another place of a line that passes itself
_CITY_GAP = 5  # cells of the line between one city's stops and the next city's
_MAP_CELL = 8  # pixels
_PLANNED, _PLAYED = "--", "-"


@dataclass(frozen=True)
class Diagram:
    """What one diagram shows of a level."""

    title: str  # text above it
    planned: Ways | None = None  # ways of the trains as they were planned, drawn dashed; None: there is no plan
    played: Ways | None = None  # ways as they were played, drawn solid; None: nothing was played
    malfunctions: Sequence[tuple[int, int, int]] = ()  # train, first and last step; each on the way that was played


def draw_time_distance(state: RailState, diagrams: Sequence[Diagram], path: str | Path) -> None:
    """Draws diagrams of one level below each other, all for the same line, into a PNG, written beside and renamed.

    Args:
        state: of the level, which has at least one train; its map, targets, speeds and latest arrivals are read.
        diagrams: from top to bottom.
        path: where to; folders above it are made.

    Raises:
        OSError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    line = Line(state, busiest_line(state))
    given = [ways for diagram in diagrams for ways in (diagram.played, diagram.planned) if ways is not None]
    end = max([state.elapsed_steps, 1, *(int(way[-1, 1]) for ways in given for way in ways if len(way))])
    figure = Figure(figsize=(15.0, 0.4 + 6.0 * len(diagrams)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.add_gridspec(len(diagrams), 2, width_ratios=(4, 1))
    for index, diagram in enumerate(diagrams):
        axes = figure.add_subplot(cells[index, 0])
        _draw_diagram(axes, state, line, diagram, end)
        if index == len(diagrams) - 1:
            axes.set_xlabel("step")
    _draw_map(figure.add_subplot(cells[0, 1]), state, line)
    figure.legend(handles=_legend(diagrams), loc="outside lower center", ncols=5, frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def busiest_line(state: RailState) -> NDArray[np.int64]:
    """The cells, row * width + column, of the shortest path that is shared most: by the trains that want each cell.

    It depends on the level alone, so pictures of a level can be compared.
    """
    lines = [_shortest_path(state, handle) for handle in range(state.n_trains)]
    wanted = Counter(cell for cells in lines for cell in cells)
    return np.array(max(lines, key=lambda cells: sum(wanted[cell] for cell in cells)), dtype=np.int64)


def _shortest_path(state: RailState, handle: int) -> list[int]:
    """The cells of a train's shortest path, each once; the first one if it cannot reach its target."""
    distances, width = state.distance_map[handle], state.grid.shape[1]
    row, column, direction = (
        int(place[handle]) for place in (state.initial_row, state.initial_column, state.initial_direction)
    )
    cells = {row * width + column: None}
    while 0 < distances[row, column, direction] < np.inf:
        ways = [
            possible_move(state.grid, row, column, direction, action)
            for action in (MOVE_LEFT, MOVE_FORWARD, MOVE_RIGHT)
        ]
        row, column, direction = min((way for way in ways if way[0] >= 0), key=lambda way: float(distances[way]))
        cells[row * width + column] = None
    return list(cells)


class Line:
    """A line of track through a map, and how far along it a cell lies.

    Args:
        state: of the level.
        cells: row * width + column, from one end to the other.

    Attributes:
        cells, rows, columns: int64 [n], its cells.
        cities: first and last position of each group of stops on it.
    """

    def __init__(self, state: RailState, cells: NDArray[np.int64]) -> None:
        self.cells = cells
        self._width = state.grid.shape[1]
        self.rows, self.columns = np.divmod(cells, self._width)
        self._positions = {cell: index for index, cell in enumerate(cells.tolist())}
        ends = (state.initial_row, state.initial_column), (state.target_row, state.target_column)
        stops = np.concatenate([row * self._width + column for row, column in ends])
        found = map(self.position, stops.tolist())
        self.cities = _clusters(sorted({position for position, _ in filter(None, found)}))

    def position(self, cell: int, near: int | None = None) -> tuple[int, bool] | None:
        """How far along the line a cell lies, and whether it is on the line; None: it is far away.

        Args:
            cell: row * width + column.
            near: where the train was before; the line may pass a cell that is beside it more than once.
        """
        if cell in self._positions:
            return self._positions[cell], True
        row, column = divmod(cell, self._width)
        rows, columns = np.abs(self.rows - row), np.abs(self.columns - column)
        candidates = np.flatnonzero(np.maximum(rows, columns) <= _BESIDE)
        if near is not None and (np.abs(candidates - near) <= _JUMP).any():
            candidates = candidates[np.abs(candidates - near) <= _JUMP]
        if not len(candidates):
            return None
        return int(candidates[(rows + columns)[candidates].argmin()]), False


def _clusters(positions: Sequence[int]) -> list[tuple[int, int]]:
    """First and last position of each group without large gaps: the cities that lie on a line."""
    groups = np.split(np.array(positions), np.flatnonzero(np.diff(positions) > _CITY_GAP) + 1)
    return [(int(group[0]), int(group[-1])) for group in groups if len(group)]


def curves(
    line: Line, way: NDArray[np.int64], steps_a_cell: int, end: int
) -> Iterator[tuple[list[tuple[int, int]], bool]]:
    """The stretches of a train's way that the line shows: points (step, position), and whether it is on the line.

    A train stands in its cell until the steps that it needs for one begin. Where it changes between the line and a
    track beside it, the two stretches share a point.

    Args:
        line: the line.
        way: of the train, int64 [n, 2].
        steps_a_cell: at full speed.
        end: the last step of a train that stays.
    """
    stretch: list[tuple[int, int]] = []
    was_on = True
    leaves = [*(way[1:, 1] - steps_a_cell).tolist(), end]
    for (key, step), left in zip(way.tolist(), leaves, strict=False):
        found = line.position(key // 4, stretch[-1][1] if stretch else None)
        if found is None or (stretch and abs(found[0] - stretch[-1][1]) > _JUMP):
            if len(stretch) > 1:
                yield stretch, was_on
            stretch = []
        if found is None:
            continue
        position, is_on = found
        if stretch and is_on != was_on:
            yield [*stretch, (step, position)], was_on
            stretch = []
        was_on = is_on
        stretch.append((step, position))
        if left > step:
            stretch.append((left, position))
    if len(stretch) > 1:
        yield stretch, was_on


def _draw_diagram(axes: Any, state: RailState, line: Line, diagram: Diagram, end: int) -> None:
    shown: set[int] = set()
    for ways, style in ((diagram.planned, _PLANNED), (diagram.played, _PLAYED)):
        for handle, way in enumerate(ways or ()):
            if _draw_train(axes, state, line, handle, way, style, end):
                shown.add(handle)
    if diagram.played is not None:
        for handle, first, last in diagram.malfunctions:
            _draw_malfunction(axes, line, diagram.played[handle], first, last)
        _draw_late(axes, state, line, diagram.played)
    for first, last in line.cities:
        axes.axhspan(first - 0.5, last + 0.5, color="#f1efe9", zorder=0)
    axes.set_yticks([(first + last) / 2 for first, last in line.cities], [_name(i) for i in range(len(line.cities))])
    axes.set_ylabel(f"{len(line.cells)} cells of the line")
    axes.set_ylim(-2, len(line.cells) + 1)
    axes.set_xlim(0, end + 1)
    axes.set_title(f"{diagram.title}: {len(shown)} of {state.n_trains} trains run here", fontsize=11, loc="left")
    axes.grid(True, axis="x", color="#e6e6e6", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_train(
    axes: Any, state: RailState, line: Line, handle: int, way: NDArray[np.int64], style: str, end: int
) -> bool:
    """Whether there was anything to draw."""
    colour = as_hex(train_colour(handle))
    steps_a_cell = -(-int(state.denominator[handle]) // int(state.max_speed[handle]))
    stays = int(way[-1, 1]) if len(way) and _is_home(state, handle, way) else end
    before: tuple[int, int] | None = None
    for stretch, on_line in curves(line, way, steps_a_cell, stays):
        steps, positions = zip(*stretch, strict=True)
        axes.plot(
            steps, positions, style, color=colour, linewidth=1.5 if on_line else 0.9, alpha=1.0 if on_line else 0.55
        )
        if stretch[0] != before and style == _PLAYED:  # a number where a curve begins
            axes.annotate(
                str(handle), stretch[0], xytext=(-2, 0), textcoords="offset points", ha="right", va="center",
                fontsize=7, color=colour, fontweight="bold",
            )  # fmt: skip
        before = stretch[-1]
    return before is not None


def _is_home(state: RailState, handle: int, way: NDArray[np.int64]) -> bool:
    target = int(state.target_row[handle]) * state.grid.shape[1] + int(state.target_column[handle])
    return int(way[-1, 0]) // 4 == target


def _draw_malfunction(axes: Any, line: Line, way: NDArray[np.int64], first: int, last: int) -> None:
    index = int(np.searchsorted(way[:, 1], first, side="right")) - 1
    found = line.position(int(way[index, 0]) // 4) if index >= 0 else None
    if found is not None:
        colour = as_hex(MALFUNCTION_COLOUR)
        axes.plot([first, last], [found[0]] * 2, color=colour, linewidth=5, alpha=0.8, solid_capstyle="butt", zorder=3)


def _draw_late(axes: Any, state: RailState, line: Line, ways: Ways) -> None:
    for handle, way in enumerate(ways):
        if len(way) and _is_home(state, handle, way) and way[-1, 1] > state.latest_arrival[handle]:
            found = line.position(int(way[-1, 0]) // 4)
            if found is not None:
                axes.plot(int(way[-1, 1]), found[0], "o", color=as_hex(LATE_COLOUR), markersize=5, zorder=4)


def _legend(diagrams: Sequence[Diagram]) -> list[Any]:
    from matplotlib.lines import Line2D

    grey = "#555555"
    entries = [Line2D([], [], color=grey, linewidth=0.9, alpha=0.55, label="on a track beside the line")]
    if any(diagram.planned is not None for diagram in diagrams):
        entries.insert(0, Line2D([], [], color=grey, linestyle=_PLANNED, label="planned"))
    if any(diagram.played is not None for diagram in diagrams):
        entries = [
            Line2D([], [], color=grey, label="played, with the train's number"),
            *entries,
            Line2D([], [], color=as_hex(MALFUNCTION_COLOUR), linewidth=5, label="malfunction"),
            Line2D([], [], color=as_hex(LATE_COLOUR), marker="o", linestyle="", markersize=5, label="home too late"),
        ]
    return entries


def _draw_map(axes: Any, state: RailState, line: Line) -> None:
    """The map with the line in it and its cities' names."""
    rows, columns = part_with_rails(state.grid)
    picture = draw_rails(state.grid[rows, columns], _MAP_CELL)
    extent = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
    axes.imshow(np.asarray(picture), extent=extent, interpolation="bilinear")
    axes.plot(line.columns, line.rows, color=as_hex(train_colour(0)), linewidth=2.5, alpha=0.9)
    for index, (first, last) in enumerate(line.cities):
        middle = (first + last) // 2
        box = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": "#555555", "linewidth": 0.8}
        axes.text(line.columns[middle], line.rows[middle], _name(index), fontsize=9, ha="center", va="center", bbox=box)
    axes.set_title("the line on the map", fontsize=10)
    axes.set_axis_off()


def _name(city: int) -> str:
    """A, B, ... Z, A1, B1, ..."""
    return chr(ord("A") + city % 26) + (str(city // 26) if city >= 26 else "")
