"""What a checkpoint must hold: all of it is looked at before any of it is used, as a file may come from anyone."""

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.learning.learner import make_policy
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.options import ANY, Accepts
from utils.observation.feature_sets import FeatureSet
from utils.simulator.rail_grid import N_ACTIONS


class MalformedError(ValueError):
    """Something in a checkpoint cannot be used; the message is a part of a sentence that says where, and what."""


Spec = Any
"""What a value :class:`Accepts`; ``[spec]`` for a list; a dictionary of keys: those before a ? need not be there;
``Named(spec)`` for a dictionary with any names."""


@dataclasses.dataclass(frozen=True)
class Named:
    """A dictionary with texts as keys, all of whose values are of one kind."""

    spec: Spec


def _is_dense(value: Any) -> bool:
    """Whether it is a tensor that takes no more memory than it took in the file."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _are_actions(value: Any) -> bool:
    right = _is_dense(value) and value.dtype == torch.int8 and (value.ndim == 2 or value.numel() == 0)
    return right and bool(((value >= 0) & (value < N_ACTIONS)).all())


WHOLE = Accepts("a whole number of at least 0", lambda value: type(value) is int and 0 <= value < 2**63)
NUMBER = Accepts("a number", lambda value: type(value) in (int, float))
TEXT = Accepts("a text", lambda value: isinstance(value, str))
TEXT_OR_NONE = Accepts("a text or None", lambda value: value is None or isinstance(value, str))
NUMBER_OR_NONE = Accepts("a number or None", lambda value: value is None or type(value) in (int, float))
DICTIONARY = Accepts("a dictionary", lambda value: isinstance(value, dict))
TENSOR = Accepts("a tensor", _is_dense)
FINITE = Accepts("a tensor of finite numbers", lambda value: _is_dense(value) and bool(value.isfinite().all()))
LOSSES = Accepts("a tensor with one axis", lambda value: _is_dense(value) and value.ndim == 1)
ACTIONS = Accepts("actions of trains", _are_actions)

_FEATURE_SET = {
    "name": TEXT,
    "version": WHOLE,
    "more?": {"name": TEXT, "version": ANY, "n_features": WHOLE},
    "n_neighbours?": WHOLE,
}
TO_PLAY: dict[str, Spec] = {
    "config": Named(ANY),
    "feature_set": _FEATURE_SET,
    "policies": [{"average_network": Named(FINITE)}],
    "last_evaluation?": Named(NUMBER),
}
_POLICY: dict[str, Spec] = {
    "q_network": Named(FINITE),
    "target_network": Named(FINITE),
    "average_network": Named(FINITE),
    "learning_steps": WHOLE,
    "optimizer": {"state": DICTIONARY, "param_groups": [DICTIONARY]},
    "exploration": DICTIONARY,
    "sampling": DICTIONARY,
    "transitions_to_learn_from": WHOLE,
    "losses": LOSSES,
    "acting?": [{"learning_steps": WHOLE, "weights": FINITE}],  # where learning was on a GPU
    "hyperparameters?": Named(NUMBER),
}
# earlier versions told less of an episode under way, which then begins again
_BEGUN_EARLIER = {"env": WHOLE, "level": WHOLE}
_BEGUN = {"slot": WHOLE, "level_number": WHOLE, "train_settings": ANY, "actions": ACTIONS}
# earlier versions had the weights of the rewards in place of "in_a_team"
_EARLIER_SETTINGS = ("n_step", "shaping", "arrival_reward", "deadlock_penalty", "team_reward")
_SETTINGS: dict[str, Spec] = {
    **dict.fromkeys(("epsilon", "policy_of_train", "gamma", "in_a_team?"), FINITE),
    **{f"{name}?": FINITE for name in _EARLIER_SETTINGS},
}
_DEMONSTRATION = "demonstration"  # one for all trains; earlier versions had none
_MOST_SLOTS = 4096  # of one process that plays
_EXCHANGE = {"episode": WHOLE, "scores": [NUMBER], "hyperparameters": [Named(NUMBER)], "objective?": TEXT}
TO_RESUME: dict[str, Spec] = TO_PLAY | {
    "policies": [_POLICY],
    "episode": WHOLE,
    "next_level": WHOLE,
    "unfinished": [DICTIONARY],
    "counters": {"train_steps": WHOLE, "evaluated_episode": WHOLE},
    "curriculum?": {"opened": [WHOLE], "recent": [NUMBER], "best": NUMBER, "n_since_best": WHOLE},
    "smoothed": Named({"value": NUMBER_OR_NONE}),
    "trains_driven": [WHOLE],
    "past_selves": {"n_taken": WHOLE, "networks": [Named(FINITE)]},
    "exchanges": [_EXCHANGE],
    "waiting?": [Named(TENSOR)],
    "first_hyperparameters?": [Named(NUMBER)],
    "best": Named(NUMBER),
    "last_evaluation": Named(NUMBER),
    "seconds": NUMBER,
    "seconds_by_part": Named(NUMBER),
    "wandb_run_id": TEXT_OR_NONE,
    "replay_buffers?": [TEXT],
    "written?": WHOLE,
}


def holds_no_more_than_its_size(path: Path) -> bool:
    """Whether a file is an archive as PyTorch writes it, without compression.

    Raises:
        zipfile.BadZipFile: it is no archive.
        OSError: it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def check_content(content: Mapping[str, Any], *, to_resume: bool) -> None:
    """Looks at everything in a checkpoint that will be used.

    Args:
        content: of the checkpoint; whether parts of it are missing has been asked before.

    Raises:
        MalformedError: something is of another kind than it must be.
    """
    _check(content, TO_RESUME if to_resume else TO_PLAY, "")
    config, n_policies = content["config"], len(content["policies"])
    for row in dataclasses.fields(TrainingConfig):
        kinds = (int, float) if isinstance(row.default, float) else (type(row.default),)
        if row.name in config and type(config[row.name]) not in kinds:
            raise _of_another_kind(f"config/{row.name}", config[row.name], f"of type {kinds[-1].__name__}")
    if n_policies != config.get("num_policies", 1):
        raise MalformedError(f"it holds {n_policies} policies, but its configuration says another number")
    if to_resume:
        _check_unfinished(content)


def _check(value: Any, spec: Spec, where: str) -> None:
    if isinstance(spec, Accepts):
        if not spec.test(value):
            raise _of_another_kind(where, value, spec.words)
    elif isinstance(spec, list):
        if not isinstance(value, list):
            raise _of_another_kind(where, value, "a list")
        for i, part in enumerate(value):
            _check(part, spec[0], f"{where}/{i}")
    elif not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise _of_another_kind(where, value, "a dictionary of named values")
    elif isinstance(spec, Named):
        for name, part in value.items():
            _check(part, spec.spec, f"{where}/{name}")
    else:
        for name, of_part in spec.items():
            plain = name.removesuffix("?")
            if plain in value:
                _check(value[plain], of_part, f"{where}/{plain}")
            elif plain == name:
                raise MalformedError(f"{where.strip('/') or 'it'} lacks {name}")


def _of_another_kind(where: str, value: Any, wanted: str) -> MalformedError:
    if isinstance(value, Tensor):
        finite = _is_dense(value) and bool(value.isfinite().all())
        found = "is a tensor of another kind" if finite else "holds NaN or infinity"
    elif isinstance(value, bool | float) or value is None:
        found = f"is {value!r}"
    else:
        found = f"is a {type(value).__name__}" if type(value) is not int else "is another number"
    return MalformedError(f"{where.strip('/')[:200]} {found}, but must be {wanted}")


def _check_unfinished(content: Mapping[str, Any]) -> None:
    """Episodes under way: each in a place and of a level of its own, with settings for the trains that it has."""
    unfinished = content["unfinished"]
    n_policies = len(content["policies"]) + len(content["past_selves"]["networks"])
    slots, levels = set(), set()
    for i, episode in enumerate(unfinished):
        earlier, where = "level_number" not in episode, f"unfinished/{i}"
        _check(episode, _BEGUN_EARLIER if earlier else _BEGUN, where)
        slots.add(episode["env" if earlier else "slot"])
        levels.add(episode["level" if earlier else "level_number"])
        if not earlier and episode["train_settings"] is not None:
            _check_settings(episode, n_policies, where)
    n = len(unfinished)
    if not len(slots) == len(levels) == n or max(slots, default=0) >= max(_MOST_SLOTS, n):
        raise MalformedError("unfinished has episodes in places or of levels that they cannot have")
    if max(levels, default=-1) >= content["next_level"]:
        raise MalformedError("unfinished has levels that were not begun")


def _check_settings(episode: Mapping[str, Any], n_policies: int, where: str) -> None:
    settings, actions = episode["train_settings"], episode["actions"]
    _check(settings, _SETTINGS | {f"{_DEMONSTRATION}?": FINITE}, f"{where}/train_settings")
    is_shown = settings.get(_DEMONSTRATION, torch.zeros(()))
    settings = {name: settings[name] for name in settings.keys() - {_DEMONSTRATION}}
    shapes = {tensor.shape for tensor in settings.values() if tensor.ndim}
    shapes |= {actions.shape[1:]} if actions.numel() else set()
    policies = settings["policy_of_train"]
    known = {name.removesuffix("?") for name in _SETTINGS}
    fits = settings.keys() <= known and len(shapes) <= 1 and all(len(shape) == 1 for shape in shapes)
    fits = fits and is_shown.ndim == 0
    if not fits or ((policies < 0) | (policies >= n_policies)).any():
        raise MalformedError(f"{where}/train_settings does not fit the episode")


def check_policies(content: Mapping[str, Any], config: TrainingConfig, feature_set: FeatureSet) -> None:
    """Lets policies take over what a checkpoint holds of them, and take a step, on trial.

    Raises:
        MalformedError: they cannot.
        ConfigError: a network of the user's own cannot be made.
    """
    past_selves = content["past_selves"]["networks"]
    for index, state in enumerate(content["policies"]):
        policy = make_policy(config, feature_set, index, "cpu")
        try:
            policy.load_state_dict(state)
            np.random.default_rng().bit_generator.state = state["sampling"]
            _try_step(policy)
            for weights in past_selves[index :: len(content["policies"])]:
                policy.average_network.load_state_dict(weights)
        except Exception as error:  # whatever PyTorch and numpy make of it
            raise MalformedError(f"policies/{index} cannot be taken over by the network {config.network!r}") from error


def _try_step(policy: DDDQNPolicy) -> None:
    """A step of the optimizer that learns nothing; what it keeps of each parameter has the parameter's shape."""
    optimizer = policy.optimizer
    for i, parameter in enumerate(policy.q_network.parameters()):
        kept = optimizer.state.get(i, {})
        if any(kept[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq") if kept):
            raise MalformedError("the optimizer keeps something of another shape")
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    if not all(parameter.isfinite().all() for parameter in policy.q_network.parameters()):
        raise MalformedError("the optimizer keeps numbers that are not finite")
