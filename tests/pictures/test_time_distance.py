"""Time-distance diagrams: the line that is chosen, where trains are on it, and what is drawn of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tests.helpers.rail_envs import EAST, WEST, drawn_env
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.pictures.rendering import RecordedSimulator
from utils.pictures.time_distance import Diagram, Line, busiest_line, curves, draw_time_distance
from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.rail_state import RailState

WIDTH = 9


def two_tracks() -> RailState:
    """Two trains that run towards each other on the upper track, one on the lower track."""
    trains = [(((0, 1), EAST), (0, 7)), (((0, 7), WEST), (0, 1)), (((1, 2), EAST), (1, 6))]
    return RailState.from_env(drawn_env([">-------<"] * 2, trains))


def way(*entered: tuple[int, int, int], direction: int = EAST) -> NDArray[np.int64]:
    """Row, column and step of each cell."""
    keys = [(4 * (row * WIDTH + column) + direction, step) for row, column, step in entered]
    return np.array(keys, dtype=np.int64).reshape(-1, 2)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draws diagrams of the two tracks; returns the axes."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))

    def axes_of(*diagrams: Diagram, state: RailState | None = None) -> list[Any]:
        draw_time_distance(state or two_tracks(), diagrams, tmp_path / "lines.png")
        return figures[-1].axes

    return axes_of


def test_line_is_the_shortest_path_that_most_trains_share() -> None:
    state = two_tracks()
    assert busiest_line(state).tolist() == [1, 2, 3, 4, 5, 6, 7]
    line = Line(state, busiest_line(state))
    assert line.position(3) == (2, True)
    assert line.position(WIDTH + 3) == (2, False)  # the track beside it
    assert line.cities == [(0, 6)]  # all stops are less than a city apart


def test_tracks_far_away_are_not_on_the_line() -> None:
    state = RailState.from_env(drawn_env([">-------<"] * 4, [(((0, 1), EAST), (0, 7))]))
    line = Line(state, busiest_line(state))
    assert line.position(2 * WIDTH + 4) == (3, False)
    assert line.position(3 * WIDTH + 4) is None
    assert line.cities == [(0, 0), (6, 6)]


def test_a_line_that_passes_a_cell_twice_goes_on_where_the_train_was() -> None:
    state = RailState.from_env(drawn_env([">-------<"] * 3, [(((0, 1), EAST), (0, 7))]))
    there_and_back = np.array([*range(1, 8), *range(2 * WIDTH + 7, 2 * WIDTH, -1)])
    line = Line(state, there_and_back)
    assert line.position(WIDTH + 4, near=3) == (3, False)
    assert line.position(WIDTH + 4, near=10) == (10, False)


def test_curve_stands_until_the_steps_for_its_cell_begin() -> None:
    line = Line(two_tracks(), busiest_line(two_tracks()))
    fast = way((0, 1, 4), (0, 2, 5), (0, 3, 9), (0, 4, 10))
    assert list(curves(line, fast, 1, end=12)) == [([(4, 0), (5, 1), (8, 1), (9, 2), (10, 3), (12, 3)], True)]
    slow = way((0, 1, 4), (0, 2, 8), (0, 3, 12))
    assert list(curves(line, slow, 4, end=12)) == [([(4, 0), (8, 1), (12, 2)], True)]


def test_curve_on_the_track_beside_the_line_is_a_stretch_of_its_own() -> None:
    line = Line(two_tracks(), busiest_line(two_tracks()))
    changing = way((0, 1, 1), (0, 2, 2), (1, 3, 3), (1, 4, 4), (0, 5, 5))
    assert list(curves(line, changing, 1, end=7)) == [
        ([(1, 0), (2, 1), (3, 2)], True),
        ([(3, 2), (4, 3), (5, 4)], False),
        ([(5, 4), (7, 4)], True),
    ]


def test_played_is_solid_and_planned_dashed_and_malfunctions_and_late_trains_are_marked(drawn: Any) -> None:
    state = two_tracks()
    state.latest_arrival[1] = 3
    played = [way((0, 1, 1), (0, 2, 2)), way((0, 2, 4), (0, 1, 5), direction=WEST), way()]
    planned = [way((0, 1, 1), (0, 2, 2), (0, 3, 3)), way(), way()]
    diagram, _ = drawn(Diagram("least_detour", planned, played, [(0, 2, 9)]), state=state)
    lines = {
        (line.get_linestyle(), line.get_marker()): line for line in diagram.get_lines() if line.get_linewidth() < 5
    }
    assert lines["--", "None"].get_xydata().tolist() == [[1, 0], [2, 1], [3, 2], [5, 2]]
    assert [label.get_text() for label in diagram.texts] == ["0", "1"]
    broken = [line for line in diagram.get_lines() if line.get_linewidth() == 5]
    assert [line.get_xydata().tolist() for line in broken] == [[[2, 1], [9, 1]]]
    (late,) = [line for line in diagram.get_lines() if line.get_marker() == "o"]
    assert late.get_xydata().tolist() == [[5, 0]]
    assert diagram.get_title(loc="left") == "least_detour: 2 of 3 trains run here"


def test_a_plan_alone_and_a_level_that_nobody_has_entered_are_drawn(drawn: Any) -> None:
    plan, _ = drawn(Diagram("plan", planned=[way((0, 1, 1), (0, 2, 2)), way(), way()]))
    assert len([line for line in plan.get_lines() if line.get_linestyle() == "--"]) == 1
    nobody, _ = drawn(Diagram("do_nothing", played=[way()] * 3))
    assert nobody.get_title(loc="left") == "do_nothing: 0 of 3 trains run here"


def test_picture_of_a_played_level_with_fifty_trains(tmp_path: Path) -> None:
    env = make_rail_env(ENV_CONFIGS["Benchmarks_Test_03"], 2)
    simulator = RecordedSimulator(env, "shortest paths")
    for _ in range(150):
        simulator.step(shortest_path_actions(simulator.state))
    recorder = simulator.recorder
    assert recorder.malfunctions()
    diagram = Diagram("shortest paths", None, recorder.ways(), recorder.malfunctions())
    draw_time_distance(recorder.state, [diagram], tmp_path / "new" / "lines.png")
    with Image.open(tmp_path / "new" / "lines.png") as image:
        assert image.width == 1500
        assert len(image.convert("RGB").getcolors(1_000_000)) > 100


def test_trains_that_cannot_reach_their_targets_are_no_reason_to_fail(drawn: Any) -> None:
    state = two_tracks()
    state.distance_map[:] = np.inf
    assert drawn(Diagram("none", played=[way()] * 3), state=state)
