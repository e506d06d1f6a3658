"""Films of episodes: the right picture, whole files, no display."""

from pathlib import Path

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState
from PIL import Image

from tests.helpers.rail_envs import EAST, WEST, drawn_env, sparse_env
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.pictures import colours, rail_map, rail_picture, sprites
from utils.pictures.rendering import EpisodeRecorder, RecordedSimulator, save_film
from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import DONE

CELL = 28


def line_env(max_episode_steps: int = 100) -> RailEnv:
    """One track, two trains head to head, each with the other's start as target."""
    trains = [(((0, 1), EAST), (0, 5)), (((0, 5), WEST), (0, 1))]
    return drawn_env([">-----<"], trains, max_episode_steps=max_episode_steps)


def recorded(env: RailEnv, cell_size: int | None = None) -> tuple[FlatlandSimulator, EpisodeRecorder]:
    """A level and its recorder, which has the first step."""
    simulator = FlatlandSimulator(env)
    recorder = EpisodeRecorder(simulator.state, cell_size=cell_size)
    recorder.capture()
    return simulator, recorder


def played_on_shortest_paths(env: RailEnv, n_steps: int, title: str = "") -> EpisodeRecorder:
    simulator = RecordedSimulator(env, title)
    for _ in range(n_steps):
        _, over = simulator.step(shortest_path_actions(simulator.state))
        if over:
            break
    return simulator.recorder


def frame(recorder: EpisodeRecorder, index: int = -1) -> np.ndarray:
    """The picture of a recorded step, uint8 [height, width, 3]."""
    return np.asarray(recorder.picture(index))


def cell_of(
    recorder: EpisodeRecorder, row: int, column: int, picture: np.ndarray | None = None, cell_size: int = CELL
) -> np.ndarray:
    """The pixels of a cell in a picture, by default the last one; uint8 [cell_size, cell_size, 3]."""
    left, top = recorder.level_picture.corner_of((row, column))
    return (frame(recorder) if picture is None else picture)[top : top + cell_size, left : left + cell_size]


def count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(axis=-1) <= 4).sum())


@pytest.fixture(scope="module")
def played() -> EpisodeRecorder:
    return played_on_shortest_paths(sparse_env(5), 60, title="seed 5")


@pytest.mark.parametrize("seed", [1, 2])
def test_rails_are_drawn_where_the_grid_has_them(seed):
    """A cell's side is crossed by a rail exactly where some transition leads over that side."""
    grid = sparse_env(seed, n_agents=20).rail.grid
    size = 20
    picture = np.asarray(rail_map.draw_rails(grid, size)).astype(int)
    distance = np.abs(picture - rail_map.RAIL_COLOUR).max(axis=-1)
    half = size // 2
    for row, column in np.ndindex(grid.shape):
        bits = int(grid[row, column])
        joined = 0
        for heading in range(4):
            joined |= bits >> (12 - 4 * heading) & 15
        top, left = row * size, column * size
        at_side = ((0, half), (half, size - 1), (size - 1, half), (half, 0))
        for side, (down, right) in enumerate(at_side):
            assert (distance[top + down, left + right] < 45) == bool(joined >> (3 - side) & 1), (row, column, side)


@pytest.mark.parametrize("direction", range(4))
def test_train_points_where_it_goes(direction):
    alpha = np.asarray(sprites.train_sprite(CELL, (200, 30, 30), direction, "", "0"))[..., 3]
    towards_north = np.rot90(alpha, k=direction)
    low, high = len(alpha) // 6, len(alpha) - 1 - len(alpha) // 6
    assert not towards_north[low, low]
    assert not towards_north[low, high]
    assert towards_north[low, len(alpha) // 2]
    assert towards_north[high, low + 2]
    assert towards_north[high, high - 2]


def test_trains_stations_and_step_are_in_the_picture():
    env = line_env()
    simulator, recorder = recorded(env, CELL)
    of_trains = [colours.train_colour(handle) for handle in (0, 1)]
    before = frame(recorder)
    for _ in range(3):
        simulator.step(np.array([2, 4]))
    assert env.agents[0].current_configuration == ((0, 2), EAST)
    recorder.capture()
    after = frame(recorder)
    assert count(cell_of(recorder, 0, 2, before), of_trains[0]) == 0
    assert count(cell_of(recorder, 0, 2, after), of_trains[0]) > 100
    # at the station of train 0 the hollow arrow of train 1, which has not departed
    assert count(cell_of(recorder, 0, 5, after), of_trains[1]) > 20
    header = recorder.level_picture.top
    assert (before[:header] != after[:header]).any()


def test_station_turns_grey_and_the_train_vanishes_at_arrival():
    env = drawn_env([">-----<"], [(((0, 1), EAST), (0, 4))])
    simulator, recorder = recorded(env, CELL)
    while not simulator.step(np.array([2]))[1]:
        recorder.capture()
    recorder.capture()
    assert env.agents[0].state == TrainState.DONE
    colour = colours.train_colour(0)
    assert count(cell_of(recorder, 0, 4, frame(recorder, 0)), colour) > 100
    assert all(count(cell_of(recorder, 0, column), colour) == 0 for column in range(7))
    assert count(cell_of(recorder, 0, 4), colours.DONE_COLOUR) > 100


def test_rails_fill_the_picture():
    """Where a map is empty nothing is drawn: one cell around the rails is kept."""
    small = drawn_env([">----<"], [(((0, 1), EAST), (0, 4))])
    large = drawn_env([" " * 30] * 9 + [" " * 10 + ">----<" + " " * 14] + [" " * 30] * 9, [(((9, 11), EAST), (9, 14))])
    sizes = [frame(recorded(env, CELL)[1]).shape for env in (small, large)]
    assert sizes[1] == (sizes[0][0] + 2 * CELL, *sizes[0][1:])
    simulator, recorder = recorded(large, CELL)
    simulator.step(np.array([2]))
    simulator.step(np.array([2]))
    recorder.capture()
    assert count(cell_of(recorder, *large.agents[0].current_configuration[0]), colours.train_colour(0)) > 100


MARKS = (colours.DEADLOCK_COLOUR, colours.MALFUNCTION_COLOUR, colours.STANDING_COLOUR)


@pytest.mark.parametrize("cell_size", [5, CELL])
def test_deadlocked_broken_and_standing_trains_are_marked(cell_size):
    """Every train that the header counts as such, on the map and off it."""

    def marks(row: int, column: int) -> list[bool]:
        cell = cell_of(recorder, row, column, cell_size=cell_size)
        return [count(cell, mark) > cell_size**2 / 20 for mark in MARKS]

    env = drawn_env([">-----<"] * 2, [(((0, 1), EAST), (0, 5)), (((1, 1), EAST), (1, 5))])
    simulator, recorder = recorded(env, cell_size)
    for _ in range(3):
        simulator.step(np.array([2, 0]))
    recorder.capture()
    assert [marks(0, 2), marks(1, 1)] == [[False] * 3] * 2
    for agent, state in zip(env.agents, (TrainState.MALFUNCTION, TrainState.MALFUNCTION_OFF_MAP), strict=True):
        agent.state_machine.set_state(state)
    simulator.state.update(env)
    recorder.capture()
    assert [marks(0, 2), marks(1, 1)] == [[False, True, False]] * 2
    env.agents[0].state_machine.set_state(TrainState.STOPPED)
    simulator.state.update(env)
    recorder.capture()
    assert marks(0, 2) == [False, False, True]
    head_to_head = played_on_shortest_paths(line_env(), 8)
    size = min(28, 500 // 7)
    found = [count(cell_of(head_to_head, 0, column, cell_size=size), MARKS[0]) > 100 for column in range(7)]
    assert sum(found) == 2


def test_broken_train_whose_first_cell_is_held_is_seen():
    trains = [(((0, 1), EAST), (0, 5)), (((0, 1), EAST), (0, 5)), (((0, 1), EAST), (0, 5))]
    env = drawn_env([">-----<"], trains)
    simulator, recorder = recorded(env, CELL)
    for _ in range(2):
        simulator.step(np.array([2, 0, 0]))
    if simulator.state.column[0] != 1:
        pytest.fail("the first train must be in its first cell")
    recorder.capture()
    white = count(cell_of(recorder, 0, 1), (255, 255, 255))
    env.agents[2].state_machine.set_state(TrainState.MALFUNCTION_OFF_MAP)
    simulator.state.update(env)
    recorder.capture()
    assert count(cell_of(recorder, 0, 1), colours.MALFUNCTION_COLOUR) > 20
    assert count(cell_of(recorder, 0, 1), (255, 255, 255)) < white


def test_header_counts_every_train_once():
    def train(state: TrainState, deadlocked: bool = False) -> rail_picture.TrainSnapshot:
        return rail_picture.TrainSnapshot(int(state), None, 0, deadlocked)

    trains = [train(state) for state in TrainState] + [train(TrainState.STOPPED, True), train(TrainState.DONE, True)]

    def counts(*, final: bool) -> dict[str, int]:
        return {label: number for label, _, number in rail_picture.count_trains(trains, final)}

    # nine trains, two of them home
    assert counts(final=False) == {"waiting": 2, "running": 1, "standing": 1, "malfunction": 2, "deadlocked": 1}
    # off the map: waiting, ready and broken ones
    assert counts(final=True) == {"never departed": 3, "running": 1, "standing": 1, "malfunction": 1, "deadlocked": 1}


def test_trains_have_the_colours_of_their_policies():
    trains = [(((row, 1), EAST), (row, 5)) for row in range(3)]
    simulator = RecordedSimulator(drawn_env([">-----<"] * 3, trains), "", lambda state: np.array([1, 0, 1]))
    for _ in range(3):
        simulator.step(np.array([2, 2, 2]))
    recorder, size = simulator.recorder, 28
    plain = EpisodeRecorder(simulator.state)
    plain.capture()
    for row, policy in enumerate((1, 0, 1)):
        assert count(cell_of(recorder, row, 2, cell_size=size), colours.policy_colour(policy)) > 100
        assert count(cell_of(plain, row, 2, cell_size=size), colours.train_colour(row)) > 100
    assert recorder.level_picture.top > plain.level_picture.top  # a line says which policy has which colour


def test_late_trains_have_a_dot():
    """From the step on in which a train cannot be on time any more, wherever it is."""
    env = drawn_env([">-----<"], [(((0, 1), EAST), (0, 5))])
    env.agents[0].latest_arrival = 12
    simulator, recorder = recorded(env, CELL)
    while len(recorder) < 15:
        simulator.step(np.array([0]))
        recorder.capture()
    late = [step.trains[0].delay for step in recorder.steps]
    assert late[0] == 0
    assert late[-1] > 0
    first = next(index for index, delay in enumerate(late) if delay)
    dots = [count(frame(recorder, index), colours.LATE_COLOUR) for index in (first - 1, first)]
    assert dots[1] > dots[0] + 10


@pytest.mark.parametrize("seed", range(6))
def test_delay_never_becomes_less_and_ends_as_that_of_the_arrival(seed):
    env = make_rail_env(ENV_CONFIGS["Benchmarks_Test_02" if seed % 2 else "Test_2"], seed)
    simulator = RecordedSimulator(env)
    random = np.random.default_rng(seed)
    over = False
    while not over:
        actions = shortest_path_actions(simulator.state)
        actions[random.random(len(actions)) < 0.1] = 4
        _, over = simulator.step(actions)
    by_train = np.array([[train.delay for train in step.trains] for step in simulator.recorder.steps])
    assert (np.diff(by_train, axis=0) >= 0).all()
    state, home = simulator.state, simulator.state.state == DONE
    assert home.any()
    assert by_train[-1][home].tolist() == (state.arrival_time - state.latest_arrival).clip(min=0)[home].tolist()


@pytest.mark.parametrize(("width", "cell_size"), [(7, 5), (7, 29), (30, 21)])
def test_sizes_are_even_as_video_needs_them(width, cell_size):
    env = drawn_env([">" + "-" * (width - 2) + "<"], [(((0, 1), EAST), (0, 4))])
    title = "a title that is far too long for a picture " * 3
    recorder = EpisodeRecorder(FlatlandSimulator(env).state, title, cell_size=cell_size)
    recorder.capture()
    picture = frame(recorder)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0


def test_gif_plays_the_episode_and_stays_small(played, tmp_path):
    path = tmp_path / "new" / "episode.gif"
    played.save(path)
    assert path.stat().st_size < 1_500_000
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0
        durations = []
        for index in range(gif.n_frames):
            gif.seek(index)
            durations.append(gif.info["duration"])
            shown = np.asarray(gif.convert("RGB")).astype(int)
        # equal steps may be merged into one longer frame
        assert sum(durations) == 100 * len(played)
        assert np.abs(shown - frame(played)).mean() < 2.0
    assert [file.name for file in path.parent.iterdir()] == ["episode.gif"]


def test_mp4_plays_the_episode(played, tmp_path):
    import imageio_ffmpeg

    path = tmp_path / "episode.mp4"
    played.save(path)
    assert path.stat().st_size < 1_500_000
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    frames = list(reader)
    height, width, _ = frame(played).shape
    assert meta["size"] == (width, height)
    assert meta["fps"] == 10
    assert meta["pix_fmt"].startswith("yuv420p")  # the only one that every browser plays
    assert len(frames) == len(played)
    last = np.frombuffer(frames[-1], dtype=np.uint8).reshape(height, width, 3).astype(int)
    assert np.abs(last - frame(played)).mean() < 3.0
    assert [file.name for file in tmp_path.iterdir()] == ["episode.mp4"]


def test_png_shows_the_last_step(played, tmp_path):
    played.save(tmp_path / "last.png")
    with Image.open(tmp_path / "last.png") as image:
        assert (np.asarray(image) == np.asarray(played.last_picture())).all()


def test_still_picture_marks_what_came_of_each_train(tmp_path):
    """Two trains head to head, one that stands for no reason, one that stays at home."""
    trains = [(((0, 1), EAST), (0, 6)), (((0, 6), WEST), (0, 1)), (((1, 1), EAST), (1, 6)), (((2, 1), EAST), (2, 6))]
    simulator = RecordedSimulator(drawn_env([">------<"] * 3, trains))
    for step in range(8):
        simulator.step(np.array([2, 2, 4 if step > 3 else 2, 0]))
    recorder = simulator.recorder
    recorder.save(tmp_path / "still.png")
    with Image.open(tmp_path / "still.png") as image:
        still = np.asarray(image.convert("RGB"))
    for row, found in enumerate([(2, 0, 0), (0, 0, 1), (0, 0, 0)]):
        cells = [cell_of(recorder, row, column, still) for column in range(8)]
        assert tuple(sum(count(cell, mark) > 200 for cell in cells) for mark in MARKS) == found


def test_side_by_side_the_shorter_episode_stands_still(played, tmp_path):
    short = played_on_shortest_paths(sparse_env(5), 9)
    save_film([short, played], tmp_path / "both.gif")
    height, width, _ = frame(played).shape
    with Image.open(tmp_path / "both.gif") as gif:
        assert gif.n_frames <= len(played)  # Pillow leaves out what does not change
        assert gif.size == (2 * width + 8, height)
        gif.seek(gif.n_frames - 1)
        last = np.asarray(gif.convert("RGB")).astype(int)
    assert np.abs(last[:, :width] - frame(short)).mean() < 3
    assert np.abs(last[:, -width:] - frame(played)).mean() < 3


def test_nothing_to_film(played, tmp_path):
    for recorders in ([], [played, EpisodeRecorder(FlatlandSimulator(sparse_env(5)).state)]):
        with pytest.raises(ValueError, match="nothing was recorded"):
            save_film(recorders, tmp_path / "none.gif")


def test_large_map_with_many_trains(tmp_path):
    env = sparse_env(3, n_agents=40, size=60, n_cities=6)
    recorder = played_on_shortest_paths(env, 3)
    recorder.save(tmp_path / "large.gif")
    assert max(frame(recorder).shape) <= 1000


@pytest.mark.parametrize(("suffix", "n_drawn"), [(".gif", 6), (".mp4", 3)])  # four go into the palette of a GIF
def test_failure_in_the_middle_leaves_the_earlier_film(tmp_path, suffix, n_drawn, monkeypatch):
    recorder = played_on_shortest_paths(line_env(), 5)
    path = tmp_path / f"episode{suffix}"
    path.write_bytes(b"earlier film")
    picture, calls = recorder.picture, []

    def failing(index: int) -> Image.Image:
        calls.append(index)
        if len(calls) > n_drawn:
            raise OSError("disk gone")
        return picture(index)

    monkeypatch.setattr(recorder, "picture", failing)
    for _ in range(2):
        with pytest.raises(OSError, match="disk gone"):
            recorder.save(path)
    assert path.read_bytes() == b"earlier film"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_long_films_of_many_trains_stay_small(tmp_path):
    """Steps are left out, so that a GIF of twice fifty trains stays under a megabyte; the last step is always there."""
    recorders = []
    for seed in (1, 1):
        env = make_rail_env(ENV_CONFIGS["Benchmarks_Test_03"], seed)
        recorders.append(played_on_shortest_paths(env, 200))
    save_film(recorders, tmp_path / "long.gif")
    assert (tmp_path / "long.gif").stat().st_size < 1_000_000
    with Image.open(tmp_path / "long.gif") as gif:
        assert 20 < gif.n_frames < 100
        gif.seek(gif.n_frames - 1)
        shown = np.asarray(gif.convert("RGB")).astype(int)
    width = frame(recorders[0]).shape[1]
    assert np.abs(shown[:, :width] - frame(recorders[0])).mean() < 3


def test_recording_does_not_touch_the_environment():
    one, other = sparse_env(7), sparse_env(7)
    simulator = RecordedSimulator(one)
    for _ in range(20):
        actions = shortest_path_actions(simulator.state)
        simulator.step(actions)
        other.step(dict(enumerate(actions.tolist())))
        assert [str(agent) for agent in one.agents] == [str(agent) for agent in other.agents]


def test_ways_are_what_trains_have_entered():
    """From the first cell to the target, with the step in which the train was first seen there."""
    env = drawn_env([">-----<"], [(((0, 1), EAST), (0, 4)), (((0, 5), WEST), (0, 0))])
    simulator = RecordedSimulator(env)
    over = False
    while not over:
        _, over = simulator.step(np.array([2, 0]))
    first, second = simulator.recorder.ways()
    assert first[:, 0].tolist() == [4 * column + EAST for column in (1, 2, 3, 4)]
    entered = first[0, 1]
    assert first[:, 1].tolist() == [entered, entered + 1, entered + 2, entered + 3]
    assert first[-1, 1] == env.agents[0].arrival_time
    assert second.shape == (0, 2)


def test_malfunctions_are_those_of_the_environment():
    env = make_rail_env(ENV_CONFIGS["Test_0"], 3)
    simulator = RecordedSimulator(env)
    broken: set[tuple[int, int]] = set()
    over = False
    while not over:
        _, over = simulator.step(shortest_path_actions(simulator.state))
        broken |= {(a.handle, env._elapsed_steps) for a in env.agents if a.state == TrainState.MALFUNCTION}
    found = simulator.recorder.malfunctions()
    assert found
    assert {(handle, step) for handle, first, last in found for step in range(first, last + 1)} == broken


def test_wrong_use_is_explained(tmp_path: Path):
    recorder = EpisodeRecorder(FlatlandSimulator(line_env()).state)
    with pytest.raises(ValueError, match="nothing was recorded"):
        recorder.save(tmp_path / "a.gif")
    recorder.capture()
    with pytest.raises(ValueError, match=r"suffix must be one of \.gif, \.mp4, \.png"):
        recorder.save(tmp_path / "a.avi")
    assert list(tmp_path.iterdir()) == []
