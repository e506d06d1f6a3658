"""Films of an episode, drawn with Pillow: no display and no window system.

flatland's own ``RenderTool`` works without a display too, but marks neither malfunctions nor deadlocks, and its
scenery makes a GIF several times as large. Here a step is recorded as a few plain values per train and drawn only
when the film is saved, so that recording costs microseconds and a long episode needs no memory to speak of.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.pictures.rail_picture import LevelPicture, StepSnapshot, TrainSnapshot
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.simulator import FlatlandSimulator
from utils.system.files import atomic_write

if TYPE_CHECKING:
    from flatland.envs.rail_env import RailEnv

FILM_SUFFIXES = (".gif", ".mp4", ".png")
_GAP = 8  # pixels between episodes side by side


class EpisodeRecorder:
    """Records the steps of one episode and saves them as a film.

    >>> recorder = EpisodeRecorder(env)  # after env.reset()
    >>> recorder.capture(env)  # after the reset and after each step
    >>> recorder.save("episode.gif")

    Args:
        env: an environment after its reset. The map and the timetable are taken from it once.
        title: text above the map.
        cell_size: pixels a cell; None fits the map into about 600 pixels.
    """

    def __init__(self, env: "RailEnv", title: str = "", cell_size: int | None = None) -> None:
        self._grid = np.array(env.rail.grid, dtype=np.uint16)
        self._steps: list[StepSnapshot] = []
        initial = [_configuration(agent.initial_configuration) for agent in env.agents]
        # All targets of a train are one cell, entered from different sides.
        targets = [_configuration(min(agent.targets))[0] for agent in env.agents]
        size = cell_size or max(5, min(28, 600 // max(self._grid.shape)))
        self._picture = LevelPicture(self._grid, initial, targets, int(env._max_episode_steps), title, size)

    def __len__(self) -> int:
        return len(self._steps)

    def capture(self, env: "RailEnv", deadlocked: NDArray[np.bool_] | Sequence[bool] | None = None) -> None:
        """Records the current step.

        Args:
            env: the environment that the recorder was made for.
            deadlocked: bool [trains], trains that can never move again; None marks none.

        Raises:
            ValueError: the environment has another map by now, or ``deadlocked`` another length than the trains.
        """
        if not np.array_equal(env.rail.grid, self._grid):
            raise ValueError("the environment's map has changed: an EpisodeRecorder records one episode of one map")
        marks = [False] * len(env.agents) if deadlocked is None else list(deadlocked)
        if len(marks) != len(env.agents):
            raise ValueError(f"deadlocked has {len(marks)} entries for {len(env.agents)} trains")
        trains = tuple(_snapshot(agent, bool(mark)) for agent, mark in zip(env.agents, marks, strict=True))
        self._steps.append(StepSnapshot(int(env._elapsed_steps), trains))

    def picture(self, index: int) -> Image.Image:
        """The picture of a recorded step, RGB; width and height are even, as video needs them.

        Raises:
            IndexError: no such step was recorded.
        """
        return self._picture.draw(self._steps[index])

    def last_picture(self) -> Image.Image:
        """The picture of the last step, which tells apart trains that wait on the map and that never departed."""
        return self._picture.draw(self._steps[-1], final=True)

    def save(self, path: str | Path, fps: float = 10) -> None:
        """Writes a film (.gif, .mp4) of all recorded steps or a picture (.png) of the last one; see ``save_film``."""
        save_film([self], path, fps)


def save_film(recorders: Sequence[EpisodeRecorder], path: str | Path, fps: float = 10) -> None:
    """Writes episodes side by side: a film (.gif, .mp4) of all steps, or a picture (.png) of the last ones.

    An episode that ends before the others stands still from then on. The file is written beside and renamed, so that
    a killed training leaves no half film.

    Args:
        recorders: from left to right; the pictures' heights need not be the same.
        path: where to; folders above it are made.
        fps: steps a second. GIF counts in hundredths of a second and stops at 50.

    Raises:
        ValueError: nothing was recorded, another suffix, or ``fps`` not above 0.
        OSError: the file cannot be written, or ffmpeg fails.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise ValueError(f"cannot write {path.name}: the suffix must be one of {', '.join(FILM_SUFFIXES)}")
    if not recorders or not all(len(recorder) for recorder in recorders):
        raise ValueError("nothing was recorded: call capture() after the reset and after each step")
    if not fps > 0:
        raise ValueError(f"fps must be above 0, got {fps}")
    last = max(len(recorder) for recorder in recorders) - 1
    with atomic_write(path) as file:
        if suffix == ".png":
            _join([recorder.last_picture() for recorder in recorders]).save(file, format="PNG")
        elif suffix == ".mp4":
            _write_mp4(file, (_step_of(recorders, step) for step in range(last + 1)), fps)
        else:
            # one palette for the whole film, from steps that between them show every train and mark
            chosen = [_step_of(recorders, step) for step in sorted({0, last // 3, 2 * last // 3, last})]
            _write_gif(file, (_step_of(recorders, step) for step in range(last + 1)), _palette(chosen), fps)


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
    strip = Image.new("RGB", (chosen[0].width, sum(picture.height for picture in chosen)))
    for index, picture in enumerate(chosen):
        strip.paste(picture, (0, index * picture.height))
    return strip.quantize(colors=255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


class RecordedSimulator(FlatlandSimulator):
    """flatland-rl with a recorder that sees every step, the first one included.

    Args:
        env: freshly reset, or loaded from a file.
        recorder: made for ``env``.
    """

    def __init__(self, env: "RailEnv", recorder: EpisodeRecorder) -> None:
        super().__init__(env)
        self._recorder = recorder
        recorder.capture(env, deadlocked(self.state))

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], bool]:
        rewards, over = super().step(actions)
        self._recorder.capture(self.env, deadlocked(self.state))
        return rewards, over


def _configuration(configuration: Any) -> tuple[tuple[int, int], int]:
    (row, column), direction = configuration
    return (int(row), int(column)), int(direction)


def _snapshot(agent: Any, deadlocked: bool) -> TrainSnapshot:
    if agent.current_configuration is None:
        _, direction = _configuration(agent.initial_configuration)
        return TrainSnapshot(int(agent.state), None, direction, deadlocked)
    cell, direction = _configuration(agent.current_configuration)
    return TrainSnapshot(int(agent.state), cell, direction, deadlocked)


def _write_gif(file: BinaryIO, pictures: Iterator[Image.Image], palette: Image.Image, fps: float) -> None:
    # Pillow stores only the part of a picture that has changed. With one palette and no dithering that is little.
    frames = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    duration = max(20, 10 * round(100 / fps))  # ms; browsers slow anything faster than 20 ms down to 100 ms
    next(frames).save(file, format="GIF", save_all=True, append_images=frames, duration=duration, loop=0)


def _write_mp4(file: BinaryIO, pictures: Iterator[Image.Image], fps: float) -> None:
    from imageio_ffmpeg import write_frames  # type: ignore[import-untyped]

    first = next(pictures)
    # ffmpeg writes by name into the file that the caller holds open; the format cannot be told from that name.
    writer = write_frames(
        file.name,
        first.size,
        fps=fps,
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
