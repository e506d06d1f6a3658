"""Scores the shipped checkpoint with and without planning on the same levels, beside a rule.

    python benchmarks/learning/planning.py -e 0 -e 1 -e 2

Writes planning_CONFIG.json (scores, paired differences, times, machine) beside itself. The levels have seeds from
500000 on, which no training uses.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.frame import SHIPPED, keep, machine
from benchmarks.learning.programs import UNSEEN, differences, score, short, training_parser
from reinforcement_learning.scoring.planning import PLAN_SECONDS

RULE = "least_detour"


def main() -> None:
    """Scores, writes the records."""
    parser = training_parser(__doc__, levels=200)
    parser.add_argument("-e", "--evaluation_env_config", action="append", metavar="TEXT")
    parser.add_argument("--checkpoint", default=str(SHIPPED))
    parser.add_argument("--plan_seconds", type=float, default=PLAN_SECONDS, help="as for run.py")
    options = parser.parse_args()
    for config in options.evaluation_env_config or ["0", "1", "2"]:
        plans = ["--plan_seconds", str(options.plan_seconds)]
        names = [options.checkpoint, RULE]
        policy, planned, rule = score(options.work_dir, config, names, options.levels, UNSEEN, plans)
        record = {
            "levels": {"count": options.levels, "first_seed": UNSEEN},
            "machine": machine(),
            "plan_seconds": options.plan_seconds,
            "policy": _timed(policy),
            "with planning": _timed(planned),
            RULE: _timed(rule),
            "planning minus policy": differences([planned], policy, error="_se"),
            f"planning minus {RULE}": differences([planned], rule, error="_se"),
        }
        keep(f"learning/planning_{config}", record)


def _timed(row: dict[str, Any]) -> dict[str, float]:
    return short(row) | {"seconds": round(row["seconds_per_level"], 2)}


if __name__ == "__main__":
    main()
