"""The compiled search for where track is laid gives the cells that flatland's gives, in the same order."""

import numpy as np
from flatland.core.grid.grid4_astar import a_star
from flatland.envs.grid.rail_env_grid import RailEnvTransitions
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.levels.track_search import find_track

STRAIGHT = 0b1000_0000_0010_0000


@st.composite
def searches(draw):
    """A map with track here and there, cells that are forbidden, and where a search begins and ends."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = (generator.random((height, width)) < draw(st.floats(0, 1))).astype(np.uint16) * STRAIGHT
    forbidden = generator.random((height, width)) < draw(st.floats(0, 0.5))
    cells = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    return grid, forbidden, draw(cells), draw(cells)


@settings(max_examples=300)
@given(searches())
def test_equal_to_flatland(search) -> None:
    grid, forbidden, start, end = search
    rail = RailGridTransitionMap(grid.shape[1], grid.shape[0], RailEnvTransitions(), grid)
    cells = {(row, column) for row, column in np.argwhere(forbidden).tolist()}
    expected = a_star(rail, start, end, avoid_rails=True, respect_transition_validity=False, forbidden_cells=cells)
    found = find_track(grid, forbidden, *start, *end)
    assert [*map(tuple, found.tolist())] == expected


def test_no_way_leads_through_forbidden_cells() -> None:
    forbidden = np.zeros((3, 5), dtype=bool)
    forbidden[:, 2] = True
    assert find_track(np.zeros((3, 5), np.uint16), forbidden, 0, 0, 0, 4).shape == (0, 2)
