"""Films of episodes: the right picture, whole files, no display."""

from pathlib import Path

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState
from PIL import Image

from tests.helpers.rail_envs import EAST, WEST, drawn_env, shortest_path_action, sparse_env
from utils.pictures import rail_picture
from utils.pictures.rendering import EpisodeRecorder, RecordedSimulator, save_film

CELL = 28


def line_env(max_episode_steps: int = 100) -> RailEnv:
    """One track, two trains head to head, each with the other's start as target."""
    trains = [(((0, 1), EAST), (0, 5)), (((0, 5), WEST), (0, 1))]
    return drawn_env([">-----<"], trains, max_episode_steps=max_episode_steps)


def play(env: RailEnv, recorder: EpisodeRecorder, n_steps: int) -> None:
    recorder.capture(env)
    for _ in range(n_steps):
        _, _, done, _ = env.step({handle: shortest_path_action(env, handle) for handle in env.get_agent_handles()})
        recorder.capture(env)
        if done["__all__"]:
            break


def frame(recorder: EpisodeRecorder, index: int = -1) -> np.ndarray:
    """The picture of a recorded step, uint8 [height, width, 3]."""
    return np.asarray(recorder.picture(index))


def cell_of(picture: np.ndarray, row: int, column: int, width: int, cell_size: int = CELL) -> np.ndarray:
    """The pixels of a cell; uint8 [cell_size, cell_size, 3]."""
    left = (picture.shape[1] - width * cell_size) // 2 + column * cell_size
    top = rail_picture.HEADER_HEIGHT + row * cell_size
    return picture[top : top + cell_size, left : left + cell_size]


def count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(axis=-1) <= 4).sum())


@pytest.fixture(scope="module")
def played() -> EpisodeRecorder:
    env = sparse_env(5)
    recorder = EpisodeRecorder(env, title="seed 5")
    play(env, recorder, 60)
    return recorder


@pytest.mark.parametrize("seed", [1, 2])
def test_rails_are_drawn_where_the_grid_has_them(seed):
    """A cell's side is crossed by a rail exactly where some transition leads over that side."""
    grid = sparse_env(seed, n_agents=20).rail.grid
    size = 20
    picture = np.asarray(rail_picture.draw_rails(grid, size)).astype(int)
    distance = np.abs(picture - rail_picture.RAIL_COLOUR).max(axis=-1)
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
    alpha = np.asarray(rail_picture.train_sprite(CELL, (200, 30, 30), direction, "", "0"))[..., 3]
    towards_north = np.rot90(alpha, k=direction)
    low, high = len(alpha) // 6, len(alpha) - 1 - len(alpha) // 6
    assert not towards_north[low, low]
    assert not towards_north[low, high]
    assert towards_north[low, len(alpha) // 2]
    assert towards_north[high, low + 2]
    assert towards_north[high, high - 2]


def test_trains_stations_and_step_are_in_the_picture():
    env = line_env()
    recorder = EpisodeRecorder(env, cell_size=CELL)
    recorder.capture(env)
    colours = [rail_picture.train_colour(handle) for handle in (0, 1)]
    before = frame(recorder)
    env.step({0: 2, 1: 4})
    env.step({0: 2, 1: 4})
    env.step({0: 2, 1: 4})
    assert env.agents[0].current_configuration == ((0, 2), EAST)
    recorder.capture(env)
    after = frame(recorder)
    assert count(cell_of(before, 0, 2, 7), colours[0]) == 0
    assert count(cell_of(after, 0, 2, 7), colours[0]) > 100
    # the station of train 0 lies under the hollow arrow of train 1, which has not departed
    assert count(cell_of(after, 0, 5, 7), colours[1]) > 20
    assert (before[: rail_picture.HEADER_HEIGHT] != after[: rail_picture.HEADER_HEIGHT]).any()


def test_station_turns_grey_and_the_train_vanishes_at_arrival():
    env = drawn_env([">-----<"], [(((0, 1), EAST), (0, 4))])
    recorder = EpisodeRecorder(env, cell_size=CELL)
    play(env, recorder, 20)
    assert env.agents[0].state == TrainState.DONE
    colour = rail_picture.train_colour(0)
    assert count(frame(recorder, 0), colour) > 100
    assert count(frame(recorder), colour) == 0
    assert count(cell_of(frame(recorder), 0, 4, 7), rail_picture.DONE_COLOUR) > 100


@pytest.mark.parametrize("cell_size", [5, CELL])
def test_malfunctions_and_deadlocks_are_marked(cell_size):
    env = line_env()
    recorder = EpisodeRecorder(env, cell_size=cell_size)
    for _ in range(4):
        env.step({0: 2, 1: 2})
    assert env.agents[0].current_configuration is not None
    (row, column), _ = env.agents[0].current_configuration
    recorder.capture(env)
    recorder.capture(env, deadlocked=np.array([True, False]))
    env.agents[0].state_machine.set_state(TrainState.MALFUNCTION)
    recorder.capture(env)
    marks = (rail_picture.DEADLOCK_COLOUR, rail_picture.MALFUNCTION_COLOUR)
    found = [
        [count(cell_of(frame(recorder, i), row, column, 7, cell_size), mark) > 0 for mark in marks] for i in range(3)
    ]
    assert found == [[False, False], [True, False], [False, True]]


def test_header_counts_every_train_once():
    def train(state: TrainState, deadlocked: bool = False) -> rail_picture.TrainSnapshot:
        return rail_picture.TrainSnapshot(int(state), None, 0, deadlocked)

    trains = [train(state) for state in TrainState] + [train(TrainState.STOPPED, True), train(TrainState.DONE, True)]

    def counts(*, final: bool) -> dict[str, int]:
        return {label: number for label, _, number in rail_picture.count_trains(trains, final)}

    assert counts(final=False) == {"waiting": 2, "running": 2, "malfunction": 2, "deadlocked": 1, "arrived": 2}
    # off the map: waiting, ready and broken ones; of those on it one stands and one is broken
    assert counts(final=True) == {
        "never departed": 3, "running": 1, "waiting": 1, "malfunction": 1, "deadlocked": 1, "arrived": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("width", "cell_size"), [(7, 5), (7, 29), (30, 21)])
def test_sizes_are_even_as_video_needs_them(width, cell_size):
    env = drawn_env([">" + "-" * (width - 2) + "<"], [(((0, 1), EAST), (0, 4))])
    recorder = EpisodeRecorder(env, title="a title that is far too long for a picture " * 3, cell_size=cell_size)
    recorder.capture(env)
    picture = frame(recorder)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0


def test_gif_plays_the_episode_and_stays_small(played, tmp_path):
    path = tmp_path / "new" / "episode.gif"
    played.save(path, fps=10)
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
    played.save(path, fps=20)
    assert path.stat().st_size < 1_500_000
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    frames = list(reader)
    height, width, _ = frame(played).shape
    assert meta["size"] == (width, height)
    assert meta["fps"] == 20
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
    env = drawn_env([">------<"] * 3, trains)
    recorder = EpisodeRecorder(env, cell_size=CELL)
    simulator = RecordedSimulator(env, recorder)
    for step in range(8):
        simulator.step(np.array([2, 2, 4 if step > 3 else 2, 0]))
    recorder.save(tmp_path / "still.png")
    with Image.open(tmp_path / "still.png") as image:
        still = np.asarray(image.convert("RGB"))
    on_the_way = frame(recorder)
    marks = (rail_picture.DEADLOCK_COLOUR, rail_picture.STANDING_COLOUR)
    for row, found in enumerate([(2, 0), (0, 1), (0, 0)]):
        cells = [cell_of(still, row, column, 8) for column in range(8)]
        assert tuple(sum(count(cell, mark) > 200 for cell in cells) for mark in marks) == found
        assert all(count(cell_of(on_the_way, row, column, 8), marks[1]) < 20 for column in range(8))


def test_side_by_side_the_shorter_episode_stands_still(played, tmp_path):
    env = sparse_env(5)
    short = EpisodeRecorder(env)
    play(env, short, 9)
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
    for recorders in ([], [played, EpisodeRecorder(sparse_env(5))]):
        with pytest.raises(ValueError, match="nothing was recorded"):
            save_film(recorders, tmp_path / "none.gif")


def test_large_map_with_many_trains(tmp_path):
    env = sparse_env(3, n_agents=40, size=60, n_cities=6)
    recorder = EpisodeRecorder(env)
    play(env, recorder, 3)
    recorder.save(tmp_path / "large.gif")
    assert max(frame(recorder).shape) <= 1000


@pytest.mark.parametrize(("suffix", "n_drawn"), [(".gif", 6), (".mp4", 3)])  # four go into the palette of a GIF
def test_failure_in_the_middle_leaves_the_earlier_film(tmp_path, suffix, n_drawn, monkeypatch):
    env = line_env()
    recorder = EpisodeRecorder(env)
    play(env, recorder, 5)
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


def test_recording_does_not_touch_the_environment():
    one, other = sparse_env(7), sparse_env(7)
    recorder = EpisodeRecorder(one)
    for _ in range(20):
        actions = {handle: shortest_path_action(one, handle) for handle in one.get_agent_handles()}
        one.step(actions)
        recorder.capture(one)
        other.step(actions)
        assert [str(agent) for agent in one.agents] == [str(agent) for agent in other.agents]


def test_wrong_use_is_explained(tmp_path: Path):
    env = line_env()
    recorder = EpisodeRecorder(env)
    with pytest.raises(ValueError, match="nothing was recorded"):
        recorder.save(tmp_path / "a.gif")
    with pytest.raises(ValueError, match="1 entries for 2 trains"):
        recorder.capture(env, deadlocked=[True])
    with pytest.raises(ValueError, match="map has changed"):
        recorder.capture(drawn_env([">---<"], [(((0, 1), EAST), (0, 3))]))
    recorder.capture(env)
    with pytest.raises(ValueError, match=r"suffix must be one of \.gif, \.mp4, \.png"):
        recorder.save(tmp_path / "a.avi")
    with pytest.raises(ValueError, match="fps must be above 0"):
        recorder.save(tmp_path / "a.gif", fps=0)
    assert list(tmp_path.iterdir()) == []
