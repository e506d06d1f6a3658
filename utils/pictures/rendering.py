"""Films of an episode, drawn with Pillow: no display and no window system.

flatland's own ``RenderTool`` works without a display too, but marks neither malfunctions nor deadlocks, and its
scenery makes a GIF several times as large. Here a step is recorded as a few plain values per train and drawn only
when the film is saved, so that recording costs microseconds and a long episode needs no memory to speak of.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.pictures.rail_picture import MALFUNCTION_STATES, LevelPicture, StepSnapshot, TrainSnapshot
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import RailState, remaining_travel_time
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import DONE, OPEN_END
from utils.system.files import atomic_write

if TYPE_CHECKING:
    from flatland.envs.rail_env import RailEnv

FILM_SUFFIXES = (".gif", ".mp4", ".png")
_STEPS_A_SECOND = 10
_GAP = 8  # pixels between episodes side by side
_GIF_COLOURS = 64
# So many trains at most are drawn in all pictures of a GIF, but 50 pictures in any case: 80 for twice fifty trains.
_GIF_TRAINS, _GIF_PICTURES = 8_000, 50
_GIF_LONGEST = 0.25  # seconds that a picture is shown, however many steps it stands for


class EpisodeRecorder:
    """Records the steps of one episode and saves them as a film.

    >>> recorder = EpisodeRecorder(simulator.state)
    >>> recorder.capture()  # at the start and after each step
    >>> recorder.save("episode.gif")

    Args:
        state: of the level, which the simulator keeps up to date.
        title: text above the map.
        policy_of_train: int [trains], which policy controls each train; None: it does not matter.
        cell_size: pixels a cell; None fits the map into about 500 pixels.

    Attributes:
        state: the level as it is now.
        steps: what was recorded.
        planned: the ways, in the form of :meth:`ways`, that were planned at the start; None: there was no plan.
    """

    def __init__(
        self,
        state: RailState,
        title: str = "",
        policy_of_train: NDArray[np.int64] | None = None,
        cell_size: int | None = None,
    ) -> None:
        self.state = state
        self.steps: list[StepSnapshot] = []
        self.title, self.policy_of_train = title, policy_of_train
        self._cell_size = cell_size
        self.planned: list[NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    @cached_property
    def level_picture(self) -> LevelPicture:
        """What draws the steps."""
        return LevelPicture(self.state, self.title, self.policy_of_train, self._cell_size)

    def capture(self) -> None:
        """Records the level as it is now."""
        state = self.state
        columns = (state.state, state.row, state.column, state.direction, state.initial_direction)
        values = zip(*(c.tolist() for c in (*columns, deadlocked(state), delays(state))), strict=True)
        trains = tuple(
            TrainSnapshot(train, (row, column), direction, stuck, delay)
            if row >= 0
            else TrainSnapshot(train, None, initial_direction, stuck, delay)
            for train, row, column, direction, initial_direction, stuck, delay in values
        )
        self.steps.append(StepSnapshot(state.elapsed_steps, trains))

    def picture(self, index: int) -> Image.Image:
        """The picture of a recorded step, RGB; width and height are even, as video needs them.

        Raises:
            IndexError: no such step was recorded.
        """
        return self.level_picture.draw(self.steps[index])

    def last_picture(self) -> Image.Image:
        """The picture of the last step, which tells that trains off the map have never departed."""
        return self.level_picture.draw(self.steps[-1], final=True)

    def save(self, path: str | Path) -> None:
        """Writes a film (.gif, .mp4) of all recorded steps or a picture (.png) of the last one; see ``save_film``."""
        save_film([self], path)

    def ways(self) -> list[NDArray[np.int64]]:
        """For each train the (grid cell, direction) keys that it has entered and the step of each, int64 [n, 2].

        A key is 4 * (row * width + column) + direction. A train that goes home is removed as it enters its target: that
        is its last key.
        """
        state, width = self.state, self.state.grid.shape[1]
        ways = []
        for handle in range(state.n_trains):
            seen = [(step.trains[handle], step.step) for step in self.steps]
            places: list[tuple[int, ...]] = [(*train.cell, train.direction, step) for train, step in seen if train.cell]
            if state.state[handle] == DONE and state.arrived_row[handle] >= 0:
                arrival = (state.arrived_row, state.arrived_column, state.arrived_direction, state.arrival_time)
                places.append(tuple(int(of_trains[handle]) for of_trains in arrival))
            keys = [(4 * (row * width + column) + direction, step) for row, column, direction, step in places]
            way = [next(stay) for _, stay in groupby(keys, key=itemgetter(0))]
            ways.append(np.array(way, dtype=np.int64).reshape(-1, 2))
        return ways

    def malfunctions(self) -> list[tuple[int, int, int]]:
        """Each malfunction on the map: the train, the first and the last step in which it was seen broken."""
        found = []
        for handle in range(self.state.n_trains):
            seen = [(step.trains[handle], step.step) for step in self.steps]
            broken = [(train.cell is not None and train.state in MALFUNCTION_STATES, step) for train, step in seen]
            for is_broken, while_so in groupby(broken, key=itemgetter(0)):
                steps = [step for _, step in while_so]
                if is_broken:
                    found.append((handle, steps[0], steps[-1]))
        return found


def delays(state: RailState) -> NDArray[np.int64]:
    """Steps, int64 [trains], by which each train is late, or will be at least.

    A train that is not home yet is late if it would be at full speed on its shortest path, once it is repaired, with
    nobody in its way. So a delay never becomes less. Trains without a latest arrival or without a way are never late.
    """
    needed = remaining_travel_time(state)
    repaired = state.elapsed_steps + state.malfunction.clip(min=0)
    start = np.where(state.row < 0, np.maximum(repaired, state.earliest_departure), repaired)
    arrival = np.where(state.state == DONE, state.arrival_time, start + needed)
    late = np.where(np.isfinite(arrival) & (state.latest_arrival < OPEN_END), arrival - state.latest_arrival, 0.0)
    return np.maximum(late, 0.0).astype(np.int64)


def save_film(recorders: Sequence[EpisodeRecorder], path: str | Path) -> None:
    """Writes episodes side by side: a film (.gif, .mp4) of all steps, or a picture (.png) of the last ones.

    An episode that ends before the others stands still from then on. The file is written beside and renamed, so that
    a killed training leaves no half film. A GIF stays small: it has few colours and not many pictures, so of a long
    episode it shows every second, third, ... step, and the last one.

    Args:
        recorders: from left to right; the pictures' heights need not be the same.
        path: where to; folders above it are made.

    Raises:
        ValueError: nothing was recorded, or another suffix.
        OSError: the file cannot be written, or ffmpeg fails.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise ValueError(f"cannot write {path.name}: the suffix must be one of {', '.join(FILM_SUFFIXES)}")
    if not recorders or not all(len(recorder) for recorder in recorders):
        raise ValueError("nothing was recorded: call capture() after the reset and after each step")
    last = max(len(recorder) for recorder in recorders) - 1
    with atomic_write(path) as file:
        if suffix == ".png":
            _join([recorder.last_picture() for recorder in recorders]).save(file, format="PNG")
        elif suffix == ".mp4":
            _write_mp4(file, (_step_of(recorders, step) for step in range(last + 1)))
        else:
            # one palette for the whole film, from steps that between them show every train and mark
            chosen = [_step_of(recorders, step) for step in sorted({0, last // 3, 2 * last // 3, last})]
            n_trains = sum(len(recorder.steps[0].trains) for recorder in recorders)
            stride = math.ceil(last / max(_GIF_PICTURES, _GIF_TRAINS // n_trains)) or 1
            steps = [*range(0, last, stride), last]
            seconds = min(stride / _STEPS_A_SECOND, _GIF_LONGEST)
            _write_gif(file, (_step_of(recorders, step) for step in steps), _palette(chosen), seconds)


def _step_of(recorders: Sequence[EpisodeRecorder], step: int) -> Image.Image:
    return _join([recorder.picture(min(step, len(recorder) - 1)) for recorder in recorders])


def _join(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures from left to right; sizes are even and stay so, as video needs them."""
    if len(pictures) == 1:
        return pictures[0]
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    joined = Image.new("RGB", (width, max(picture.height for picture in pictures)), (255, 255, 255))
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, 0))
        left += picture.width + _GAP
    return joined


def _palette(chosen: Sequence[Image.Image]) -> Image.Image:
    strip = Image.fromarray(np.concatenate([np.asarray(picture) for picture in chosen]))
    return strip.quantize(colors=_GIF_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


class RecordedSimulator(FlatlandSimulator):
    """flatland-rl with a recorder that sees every step, the first one included.

    Args:
        env: freshly reset, or loaded from a file.
        title: text above the map.
        policy_of_train: names the policy of each train, int [trains], from the state at the start.
    """

    def __init__(
        self, env: "RailEnv", title: str = "", policy_of_train: Callable[[RailState], NDArray[np.int64]] | None = None
    ) -> None:
        super().__init__(env)
        self.recorder = EpisodeRecorder(self.state, title, policy_of_train(self.state) if policy_of_train else None)
        self.recorder.capture()

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], bool]:
        rewards, over = super().step(actions)
        self.recorder.capture()
        return rewards, over


def _write_gif(file: BinaryIO, pictures: Iterator[Image.Image], palette: Image.Image, seconds: float) -> None:
    # Pillow stores only the part of a picture that has changed. With one palette and no dithering that is little.
    frames = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    duration = 10 * round(100 * seconds)  # ms
    next(frames).save(file, format="GIF", save_all=True, append_images=frames, duration=duration, loop=0)


def _write_mp4(file: BinaryIO, pictures: Iterator[Image.Image]) -> None:
    from imageio_ffmpeg import write_frames  # type: ignore[import-untyped]

    first = next(pictures)
    # ffmpeg writes by name into the file that the caller holds open; the format cannot be told from that name.
    writer = write_frames(
        file.name,
        first.size,
        fps=_STEPS_A_SECOND,
        codec="libx264",
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-f", "mp4", "-movflags", "+faststart", "-crf", "20"],
    )
    writer.send(None)
    try:
        writer.send(first.tobytes())
        for picture in pictures:
            writer.send(picture.tobytes())
    finally:
        writer.close()
