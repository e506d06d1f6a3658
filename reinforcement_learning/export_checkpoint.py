"""Makes a small file of a checkpoint, for sharing and submitting: the network and what it needs, no optimizer.

python reinforcement_learning/export_checkpoint.py checkpoints/RUN/best.pt checkpoints/flatland_policy.pt
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process

from reinforcement_learning.saving.checkpointing import CheckpointError, export_checkpoint
from reinforcement_learning.settings.arguments import SentenceParser
from utils.system.console import complain, prepare_console, say
from utils.system.interrupts import exit_code_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports as the command line says; returns the exit code."""
    prepare_console()
    parser = SentenceParser(
        prog="export_checkpoint.py", description="Makes a small file of a checkpoint, which can be played, not resumed."
    )
    parser.add_argument("source", metavar="CHECKPOINT", help="checkpoint of a training")
    parser.add_argument("target", metavar="FILE", help="file to write (.pt)")
    options = parser.parse_args(arguments)
    try:
        export_checkpoint(options.source, options.target)
    except CheckpointError as error:
        complain(f"export_checkpoint.py: error: {error}")
        return 2
    except OSError as error:
        complain(f"export_checkpoint.py: error: {options.target} cannot be written ({error.strerror}).")
        return 2
    say(f"{options.target}: {Path(options.target).stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
