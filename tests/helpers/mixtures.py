"""Helpers of the tests: small trainings on several environments, and whether they play what they must."""

from typing import Any

from reinforcement_learning.playing.experience import FinishedEpisode
from reinforcement_learning.training.trainer import Trainer
from utils.levels.mixtures import stage_of_level

THREE = "Tiny,Test_0,Round2_Test_00"  # of 2, 5 and 7 trains
N_TRAINS = [2, 5, 7]
SEVERAL: dict[str, Any] = {
    "training_env_config": THREE,
    "n_episodes": 12,
    "num_envs": 2,
    "n_step": 2,
    "seed": 1,
    "save_replay_buffer": True,
}


def noted(trainer: Trainer) -> list[tuple[int, int]]:
    """Of each episode the level's number and how many trains it has, as they come."""
    found = []
    after_episode = trainer.curriculum.after_episode

    def note(episode: FinishedEpisode, n_finished: int) -> dict[str, float]:
        found.append((episode.level_number, episode.result.n_trains))
        return after_episode(episode, n_finished)

    trainer.curriculum.after_episode = note  # type: ignore[method-assign]
    return found


def check_rule(trainer: Trainer, found: list[tuple[int, int]]) -> None:
    """Whoever has played a level: it is that of its number."""
    opened, seed = trainer.level_pool.levels.opened, trainer.config.seed
    assert sorted(number for number, _ in found) == list(range(trainer.config.n_episodes))
    assert [n for _, n in found] == [N_TRAINS[stage_of_level(seed, opened, number)] for number, _ in found]
