"""A file that tells which policy has driven which train, an episode a line.

``{"episode": 7, "level_number": 8, "policy_of_train": [0, 2, 1]}``
"""

import json
from pathlib import Path

from reinforcement_learning.multi_policy.mapping import PolicyOfTrain
from reinforcement_learning.tracking.json_lines_sink import drop_rows_after

MAPPING_FILE = "policy_mapping.jsonl"


class MappingLog:
    """Appends a line for each finished episode of a training.

    The file is touched when the first line comes.

    Args:
        resume_episode: lines after it, which a resumed training writes again, are dropped; None: a new file.
    """

    def __init__(self, folder: Path, resume_episode: int | None) -> None:
        self.path = folder / MAPPING_FILE
        self._resume_episode = resume_episode
        self._begun = False

    def add(self, episode: int, level_number: int, policy_of_train: PolicyOfTrain) -> None:
        """Writes one line: the policy of each train, numbers behind those of the policies being older copies.

        Raises:
            OSError: the disk is full or gone.
        """
        line = json.dumps(
            {"episode": episode, "level_number": level_number, "policy_of_train": policy_of_train.tolist()}
        )
        if not self._begun:
            self._begin()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _begin(self) -> None:
        if self._resume_episode is None:
            self.path.write_bytes(b"")
        elif self.path.exists():
            drop_rows_after(self.path, self._resume_episode)
        self._begun = True
