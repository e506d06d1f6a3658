"""Cells to repair, and their repair, are flatland's."""

import numpy as np
from flatland.envs.rail_generators import SparseRailGen

from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.levels.track_repair import neighbours_fit, repair


def test_neighbours_fit_on_damaged_maps() -> None:
    """Finished maps hardly ever have a misfit, so cells are emptied and swapped at random."""
    generator = np.random.default_rng(0)
    misfits = 0
    for seed in range(5):
        rail = make_rail_env(ENV_CONFIGS["Test_0"], seed).rail
        for _ in range(40):
            rows, columns = generator.integers(0, 30, (2, 2))
            rail.set_transitions((rows[0], columns[0]), rail.grid[rows[1], columns[1]])
            rail.set_transitions(tuple(generator.choice(np.argwhere(rail.grid))), 0)
        cells = np.argwhere(np.ones(rail.grid.shape))
        expected = [rail.cell_neighbours_valid((int(row), int(column))) for row, column in cells]
        fits = neighbours_fit(rail.grid, cells)
        assert fits.tolist() == expected
        misfits += np.count_nonzero(~fits)
    assert misfits > 50


def test_equal_repairs_on_damaged_maps() -> None:
    """Of each cell in turn, so that later ones meet what earlier ones have made."""
    generator = np.random.default_rng(0)
    n_turns = set()
    for seed in range(4):
        expected, rail = (make_rail_env(ENV_CONFIGS["Test_0"], seed).rail for _ in range(2))
        for row, column in generator.integers(0, 30, (120, 2)):
            cell = generator.choice(expected.grid[expected.grid > 0])
            expected.set_transitions((row, column), cell)
            rail.set_transitions((row, column), cell)
        draws = np.random.RandomState(7), np.random.RandomState(7)
        for row, column in generator.integers(0, 30, (600, 2)).tolist():
            preferred = int(generator.integers(-1, 4))
            SparseRailGen.fix_transitions(expected, (row, column), np.int64(preferred), draws[0])
            repair(rail, row, column, preferred, draws[1])
            assert rail.grid[row, column] == expected.grid[row, column]
            n_turns.add(bin(rail.grid[row, column]).count("1"))
        assert draws[0].randint(2**30) == draws[1].randint(2**30)
    assert n_turns == {0, 1, 2, 4, 8}  # dead ends, curves, switches, double slips
