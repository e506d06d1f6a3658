"""What the kit reaches on levels of the kind of the ECML 2026 competition, under its rewards.

    python benchmarks/ecml_2026.py                          # twenty levels of ECML_small
    python benchmarks/ecml_2026.py --levels "levels/*.pkl"  # saved levels, each a row; nothing is recorded
    python benchmarks/ecml_2026.py --largest                # 532 trains on 120 x 150 cells, by graders' commands

flatland-rl itself plays. *Reward* is normalized as graders do, 1 being perfect. Beside the shipped checkpoint with
planning stand the same without, the heuristic DLA, and each train alone on the map, which bounds all of them. Levels
have seeds from 800000 on, which nothing was chosen by. The record is ecml_2026.json beside this file, its table
ecml_2026.md.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rewards import ECML2026Rewards

from benchmarks.frame import SHIPPED, keep, kept, markdown_table, parser_of, processor, with_error
from reinforcement_learning.grading.trajectories import scenarios_of, walk
from reinforcement_learning.scoring.planning import PLAN_SECONDS
from reinforcement_learning.scoring.players import CEILING, PLANNING
from reinforcement_learning.scoring.score_table import Scored
from reinforcement_learning.scoring.scoring import Scorer, Task
from utils.levels.env_configs import SingleEnv, resolve_env_config, single_envs
from utils.levels.rail_envs import make_rail_env
from utils.levels.sampled_envs import Disruptions, GeneratedMap, SampledEnv

PLAYERS = {f"{SHIPPED}{PLANNING}": "with planning", str(SHIPPED): "the network alone"}
PLAYERS |= {"dla": "DLA", CEILING: "each train alone"}
FIRST_SEED = 800_000
ENVIRONMENT, N_LEVELS = "ECML_small", 20
_LOST = {"late": ("late_arrival", "stop_late", "stop_early"), "stops not served": ("stop_not_served",)}

# Level 6 of the competition has so many trains; a line has at most six stops on its way.
LARGEST = SampledEnv(
    "largest",
    GeneratedMap(150, 120, 28, max_rail_pairs_in_city=3, max_rails_between_cities=3),
    trains=(532, 532),
    waypoints=(3, 8),
    malfunctions=Disruptions(180, 30, 80),
    departure_delays=Disruptions(5, 3, 10),
    rewards=ECML2026Rewards,
)


def main() -> None:
    """Plays, prints the tables, and keeps what is to be kept."""
    parser = parser_of(__doc__)
    parser.add_argument("--levels", help="saved levels: a file, a folder or a quoted pattern")
    parser.add_argument("--largest", action="store_true", help="measure the time of the largest level")
    parser.add_argument("--num_workers", type=int, default=2, help="levels that are played at a time (default: 2)")
    options = parser.parse_args()
    record = kept("ecml_2026")
    if options.largest:
        record["largest"] = _largest()
        print(json.dumps(record["largest"]))
    elif options.levels:
        print(_table(_play(single_envs([resolve_env_config(options.levels)]), 1, options.num_workers)))
        return
    else:
        rows = _play(single_envs([resolve_env_config(ENVIRONMENT)]), N_LEVELS, options.num_workers)
        record |= {"processor": processor(), "plan_seconds": PLAN_SECONDS, "rows": rows}
        print(text := _table(rows))
        keep("ecml_2026", page=f"# Levels of the kind of ECML 2026\n\n{processor()}.\n\n{text}")
    keep("ecml_2026", record)


def _play(envs: Sequence[SingleEnv], n_levels: int, num_workers: int) -> list[dict[str, Any]]:
    """The rows of ``evaluate_agent.py --json`` of all players."""
    scorer, rows = Scorer(list(PLAYERS), num_workers=num_workers, plan_seconds=PLAN_SECONDS), []
    for env in envs:
        tasks = [Task(replace(env, rewards=ECML2026Rewards), FIRST_SEED + i) for i in range(n_levels)]
        scored = [Scored(title, env.name, FIRST_SEED) for title in PLAYERS.values()]
        for played in scorer.play(tasks):
            for row, episode in zip(scored, played, strict=True):
                row.played.append(episode)
        rows += [row.as_dict() for row in scored]
        print(_table(rows[-len(scored) :]), file=sys.stderr, flush=True)
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of the rows, with the mean over all environments in the end."""
    cells = []
    for row in rows:
        causes = [abs(sum(row["losses_mean"].get(cause, 0.0) for cause in names)) for names in _LOST.values()]
        reward = with_error(1 + row["score_mean"], row["score_se"])
        completion = with_error(row["completion_mean"], row["completion_se"])
        measured = [reward, completion, *(f"{lost:.3f}" for lost in causes), f"{row['seconds_per_level']:.1f}"]
        cells.append([row["config"], row["policy"], row["episodes"], *measured])
    for title in PLAYERS.values():
        means = [1 + row["score_mean"] for row in rows if row["policy"] == title]
        if len(means) > 1:
            mean = f"{sum(means) / len(means):.3f}"
            cells.append([f"mean of {len(means)}", title, "", mean, *[""] * (2 + len(_LOST))])
    headings = ["environment", "policy", "levels", "reward", "completion", *(f"lost by: {name}" for name in _LOST)]
    return markdown_table([*headings, "seconds a level"], cells)


def _largest() -> dict[str, Any]:
    """Lets graders' commands play the largest level."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "levels", "level_6_scenario_1.pkl")
        path.parent.mkdir()
        env = make_rail_env(LARGEST, FIRST_SEED)
        RailEnvPersister.save(env, str(path))
        (grade,) = walk(scenarios_of([path]), Path(folder), ECML2026Rewards)
    return {
        "processor": processor(),
        "trains": len(env.agents),
        "steps": env._max_episode_steps,
        "reward": round(grade.score, 4),
        "completion": round(grade.completion, 4),
        "minutes": round(grade.seconds / 60, 1),
        "remark": grade.remark,
    }


if __name__ == "__main__":
    main()
