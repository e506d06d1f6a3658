"""Checkpoints: one file each, whole or absent, without code in it.

A checkpoint is a dictionary of tensors and plain values that ``torch.load(weights_only=True)`` reads. It is written
beside its place and renamed, so a kill at any moment leaves the checkpoints that were there as they were.
"""

import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reinforcement_learning.dddqn_policy import GreedyPolicy
from reinforcement_learning.learning.networks import make_network
from reinforcement_learning.saving.checkpoint_content import (
    TO_PLAY,
    TO_RESUME,
    MalformedError,
    check_content,
    check_policies,
    holds_no_more_than_its_size,
)
from reinforcement_learning.settings.config import DUELING, PLACES, ConfigError, TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError
from reinforcement_learning.settings.features import NO_FEATURES, with_more_features, with_neighbours
from reinforcement_learning.settings.named_code import NOTHING_NAMED, NamedCode
from reinforcement_learning.settings.run_config import make_config
from reinforcement_learning.tracking.metrics import of_policy
from utils.observation.feature_sets import FeatureSet, get_feature_set
from utils.observation.observer import Observer
from utils.system.files import atomic_write, why_unreadable

CHECKPOINT_FORMAT = 2
BEST = "best.pt"
_NUMBERED = re.compile(r"episode_(\d+)\.pt")
_NEEDED_TO_PLAY, _NEEDED_TO_RESUME = ({name for name in spec if "?" not in name} for spec in (TO_PLAY, TO_RESUME))
_EXPORTED = _NEEDED_TO_PLAY | {"episode", "last_evaluation", "versions"}


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message is one sentence."""


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint in one atomic step.

    Raises:
        OSError: the file cannot be written; one that was there before is unharmed.
    """
    # by way of memory: torch.save hides a full disk behind a RuntimeError of its own
    serialized = io.BytesIO()
    torch.save({"format_version": CHECKPOINT_FORMAT, **content}, serialized)
    with atomic_write(path) as file:
        file.write(serialized.getbuffer())


def read_checkpoint(path: str | Path, *, to_resume: bool = True) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Args:
        to_resume: whether a training is to go on from it; an exported checkpoint can only be played.

    Raises:
        CheckpointError: the file is missing, damaged, no checkpoint, of another format, or holds too little.
    """
    path = Path(path)
    content = _load(path, ", or latest" if to_resume else "")
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise CheckpointError(f"{path} is not a checkpoint of this kit.")
    if version != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {version}, but this version reads {CHECKPOINT_FORMAT}.")
    if to_resume and _NEEDED_TO_PLAY <= content.keys() <= _EXPORTED | {"format_version"}:
        raise CheckpointError(f"{path} is exported for playing; a training cannot be resumed from it.")
    if missing := (_NEEDED_TO_RESUME if to_resume else _NEEDED_TO_PLAY) - content.keys():
        raise CheckpointError(f"{path} is not a whole checkpoint: it lacks {', '.join(sorted(missing))}.")
    try:
        check_content(content, to_resume=to_resume)
    except MalformedError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    return content


def _load(path: Path, or_latest: str = "") -> Any:
    """What is in a file, whatever it is; ``or_latest`` is what else could be given."""
    if os.path.isdir(path):  # False, where Path.is_dir raises an error
        raise CheckpointError(f"{path} is a folder; give the path of a checkpoint (.pt) in it{or_latest}.")
    if why := why_unreadable(path):
        raise CheckpointError(f"{path} {why}; give the path of a checkpoint (.pt){or_latest}.")
    try:
        if not holds_no_more_than_its_size(path):
            raise CheckpointError(f"{path} is compressed, but must be as it was saved.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    # A damaged file can raise anything. PyTorch's own words are left out: they say how to open it unsafely.
    except Exception as error:
        raise CheckpointError(f"{path} is not a checkpoint of this kit, or is damaged.") from error


def numbered_checkpoint(folder: Path, episode: int) -> Path:
    """The place of the checkpoint after an episode; names sort by episode."""
    return folder / f"episode_{episode:07d}.pt"


def when_written(path: Path) -> int:
    """A number that grows from checkpoint to checkpoint, in nanoseconds.

    It stands in the file and grows even where the clock goes back. For a file that does not tell it is the time at
    which that was changed; 0 for one that is not there.
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return 0
    try:
        content = _load(path)
    except CheckpointError:
        return changed
    written = content.get("written") if isinstance(content, dict) else None
    return written if type(written) is int and 0 <= written < 2**62 else changed


def newest_first(folder: Path, pattern: str) -> list[Path]:
    """Checkpoints that match, the one written last first."""
    return sorted(folder.glob(pattern), key=lambda path: (when_written(path), path.name), reverse=True)


def latest_checkpoint(checkpoint_dir: Path, warn: Callable[[str], None]) -> Path:
    """The newest complete checkpoint below a folder, whichever run wrote it; damaged ones are passed over.

    Raises:
        CheckpointError: there is none.
    """
    for path in newest_first(checkpoint_dir, "**/episode_*.pt"):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            warn(f"passed over: {error}")
            continue
        return path
    raise CheckpointError(f"there is no complete checkpoint in {checkpoint_dir} to resume from.")


def find_checkpoint(
    options: Mapping[str, Any], warn: Callable[[str], None]
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """The checkpoint that ``--resume`` means, and its content; None and None where it is not given.

    Args:
        warn: gets a sentence about each newer checkpoint that is damaged.

    Raises:
        CheckpointError: there is none, or it cannot be used.
        ConfigError: the option is empty.
    """
    if "resume" not in options:
        return None, None
    resume = options["resume"]
    if not resume:  # a variable of a script that is not set: beginning anew is not what was meant
        raise ConfigError("--resume is empty, but must be the path of a checkpoint (.pt), or latest.")
    folder = Path(options.get("checkpoint_dir", TrainingConfig.checkpoint_dir))
    path = latest_checkpoint(folder, warn) if resume == "latest" else Path(resume)
    if not os.path.isfile(path):  # of a name that is too long pathlib raises an error
        _check_is_no_run(resume, [path, folder / path])
    return path, read_checkpoint(path)


def _check_is_no_run(resume: str, folders: Sequence[Path]) -> None:
    """Says what to give instead of the name or the folder of a run."""
    for folder in folders:
        if os.path.isdir(folder) and (newest := newest_first(folder, "*.pt")[:1]):
            raise CheckpointError(
                f"--resume is {resume!r}, which is a run, but must be a checkpoint: {newest[0]} is its newest, and "
                "latest means the newest of all runs."
            )


def numbered_checkpoints(folder: Path) -> list[Path]:
    """The numbered checkpoints of a run, the one after the most episodes first."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NUMBERED.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def remove_all_but_newest(folder: Path, keep: int, just_written: Sequence[Path] = ()) -> None:
    """Deletes numbered checkpoints of a run, those after the fewest episodes first.

    Args:
        just_written: these stay before all others: where a training went back to an earlier checkpoint, others of more
            episodes may lie there.
    """
    others = [path for path in numbered_checkpoints(folder) if path not in just_written]
    for path in [*just_written, *others][keep:]:
        path.unlink(missing_ok=True)


def stored_form(feature_set: FeatureSet) -> dict[str, Any]:
    """What a checkpoint keeps of a feature set; of the user's features it is what they call themselves."""
    more = feature_set.more
    of_user = {"more": {"name": more.name, "version": more.version, "n_features": more.n_features}} if more else {}
    neighbours = {"n_neighbours": feature_set.n_neighbours} if feature_set.n_neighbours else {}
    return {"name": feature_set.name, "version": feature_set.version, **of_user, **neighbours}


def stored_feature_set(
    content: dict[str, Any], path: str | Path, features: str = NO_FEATURES, network: str = DUELING
) -> FeatureSet:
    """The feature set that a checkpoint was trained with.

    Raises:
        CheckpointError: it is not there any more, or has another version or other neighbours; the sentence names both.
    """
    stored = content["feature_set"]
    name, version = stored["name"], stored["version"]
    try:
        known = get_feature_set(name)
    except ValueError as error:
        raise CheckpointError(f"{path} was trained on feature set {name} version {version}: {error}") from error
    if known.version != version:
        raise CheckpointError(
            f"{path} was trained on feature set {name} version {version}, but this kit has version {known.version}."
        )
    try:
        known = with_neighbours(with_more_features(known, features), network)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_more_features(stored.get("more"), stored_form(known).get("more"), path)
    if stored.get("n_neighbours", 0) != known.n_neighbours:
        raise CheckpointError(
            f"{path} was trained with {stored.get('n_neighbours', 0)} neighbours, but its network {network!r} looks at "
            f"{known.n_neighbours} now."
        )
    return known


def _check_more_features(stored: dict[str, Any] | None, found: dict[str, Any] | None, path: str | Path) -> None:
    if stored == found:
        return
    labels = ["none" if more is None else f"{more['name']} version {more['version']}" for more in (stored, found)]
    if stored and found and labels[0] == labels[1]:
        raise CheckpointError(
            f"features {labels[1]} has {found['n_features']} numbers, but {path} was trained with {labels[0]} with "
            f"{stored['n_features']}: give it a new version."
        )
    raise CheckpointError(f"{path} was trained with more features: {labels[0]}, but --features gives {labels[1]}.")


def load_policy(
    path: str | Path, policy_index: int | None = None, named: NamedCode = NOTHING_NAMED
) -> tuple[GreedyPolicy, Observer]:
    """A trained policy and the observer that goes with it, ready to play on the CPU.

    Args:
        policy_index: which of the checkpoint's policies, from 0 on; None: the one with the best newest evaluation.

    Raises:
        CheckpointError: the checkpoint cannot be used, has no policy of that number, or names code that ``named`` does
            not name.
    """
    content = read_checkpoint(path, to_resume=False)
    n_policies = len(content["policies"])
    if policy_index is None:
        evaluation = content.get("last_evaluation", {})
        policy_index = max(range(n_policies), key=lambda p: _alone(evaluation, p))
    if not 0 <= policy_index < n_policies:
        held = f"policies 0 to {n_policies - 1}" if n_policies > 1 else "one policy, number 0"
        raise CheckpointError(f"{path} holds {held}, but --policy_index is {policy_index}.")
    named = replace(named, policy_mapping=(TrainingConfig.policy_mapping,))  # it is not mapped to trains
    (policy,), observer, _ = _load_to_play(content, path, named, [policy_index])
    return policy, observer


def _alone(evaluation: Mapping[str, float], policy: int) -> tuple[float, float]:
    """What a policy has reached without the others: of equal scores the higher completion is better."""
    score, completion = (of_policy(policy, f"evaluation/{name}_mean") for name in ("scores", "completions"))
    return evaluation.get(score, -math.inf), evaluation.get(completion, -math.inf)


def load_policies(
    path: str | Path, named: NamedCode = NOTHING_NAMED
) -> tuple[list[GreedyPolicy], Observer, TrainingConfig]:
    """All policies of a checkpoint, the observer that goes with them, and the configuration, which maps them.

    Raises:
        CheckpointError: the checkpoint cannot be used, or names code, such as a mapping that is not on board, that was
            not given.
    """
    content = read_checkpoint(path, to_resume=False)
    return _load_to_play(content, path, named, range(len(content["policies"])))


_OF_TRAINING_ONLY = {
    name: getattr(TrainingConfig, name)
    for name in (
        "training_env_config",
        "evaluation_env_config",
        "rewards",
        "learning_reward",
        "pbt_objective",
        "ray_address",
    )
}
"""What could run code in a training and does not matter to whoever plays, as if it had not been given."""


def _load_to_play(
    content: dict[str, Any], path: str | Path, named: NamedCode, indices: Iterable[int]
) -> tuple[list[GreedyPolicy], Observer, TrainingConfig]:
    """Policies of a checkpoint, the observer that goes with them, and the configuration that they were trained with."""
    stored = content["config"]
    try:
        named.check_variables(stored)
        config = make_config(_OF_TRAINING_ONLY | named.options_for(stored), stored)
    except (ConfigError, ExtensionError) as error:
        raise CheckpointError(f"{path} cannot be played as in training: {error}") from error
    feature_set = stored_feature_set(content, path, config.features, config.network)
    policies = []
    for index in indices:
        try:
            network = make_network(config, feature_set, index)
        except ConfigError as error:
            raise CheckpointError(f"{path} cannot be played: {error}") from error
        load_weights(network, content, path, index)
        policies.append(GreedyPolicy(network, torch.device("cpu")))
    observer = Observer(
        feature_set,
        safe_moves=stored.get("safe_moves", False),  # checkpoints from before it was there
        action_mask=config.action_mask,
        decision_points=config.decision_points,
    )
    return policies, observer, config


def load_weights(network: nn.Module, content: dict[str, Any], path: str | Path, index: int) -> None:
    """Fills a network with the averaged weights of a checkpoint's policy.

    Raises:
        CheckpointError: they do not fit.
    """
    try:
        network.load_state_dict(content["policies"][index]["average_network"])
    except RuntimeError as error:
        name = content["config"].get("network", DUELING)
        raise CheckpointError(f"{path} holds weights of another shape than its network {name!r} has now.") from error


def check_resumable(content: dict[str, Any], path: str | Path, config: TrainingConfig, feature_set: FeatureSet) -> None:
    """Whether a training can go on from a checkpoint; it is asked before any folder is made.

    Raises:
        CheckpointError: it cannot.
    """
    for index in range(config.num_policies):
        load_weights(make_network(config, feature_set, index), content, path, index)
    try:
        check_policies(content, config, feature_set)
    except MalformedError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error


def export_checkpoint(source: str | Path, target: str | Path) -> None:
    """Writes what playing needs of a checkpoint, a fraction of its size: no optimizer, no paths of this machine.

    Raises:
        CheckpointError: ``source`` cannot be used.
        OSError: ``target`` cannot be written.
    """
    content = read_checkpoint(source, to_resume=False)
    kept = {name: content[name] for name in _EXPORTED if name in content}
    kept["config"] = {name: value for name, value in content["config"].items() if name not in PLACES}
    kept["policies"] = [{"average_network": policy["average_network"]} for policy in content["policies"]]
    write_checkpoint(Path(target), kept)
