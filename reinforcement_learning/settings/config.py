"""One table of options: parser, ``--help``, docs/options.md and the frozen configuration all come from it.

Each field of :class:`TrainingConfig` is one row of the table: name, type, default, help text, short form and the
values that are accepted. Nothing about an option is written down anywhere else; ``command_line`` makes the parser,
the help and the tables of docs/options.md.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reinforcement_learning.settings.extensions import ExtensionError, check_named_by_user
from reinforcement_learning.settings.named_rewards import DEFAULT_REWARDS, REWARDS, find_rewards
from reinforcement_learning.settings.options import (
    FOLDER,
    above,
    at_least,
    between,
    has_colon,
    not_negative,
    one_of,
    option,
    whole,
)
from utils.levels.env_configs import (
    ENVIRONMENTS_IN_WORDS,
    Environment,
    names_files,
    resolve_env_config,
    with_absolute_path,
)
from utils.levels.mixtures import (
    Mixture,
    TrainingEnvironment,
    any_names_files,
    resolve_environments,
    with_absolute_paths,
)
from utils.observation.feature_sets import FEATURE_SETS
from utils.simulator.action_mask import DECISION_POINTS, DEFAULT_DECISION_POINTS
from utils.system.files import PROJECT_ROOT


class ConfigError(ValueError):
    """A user gave something that cannot be used; the message is one sentence: what was given, what is accepted."""


_RUN, _EXPLORE, _LEARN, _REWARD = "run", "exploration", "learning", "reward"
_INPUT, _FILES, _TRACK, _MACHINE = "observation and actions", "files", "tracking", "machine"
_POLICIES = "policies"

GROUPS = {
    _RUN: "What is trained, for how long, and how it is evaluated",
    _EXPLORE: "Exploration",
    _LEARN: "Learning",
    _REWARD: "Rewards that are learned from; scores are always the environment's own",
    _INPUT: "What a policy sees and may do",
    _POLICIES: "Several policies",
    _FILES: "Files",
    _TRACK: "Tracking",
    _MACHINE: "Machine",
}


@dataclass(frozen=True)
class TrainingConfig:
    """The whole configuration of a training; ``--help`` has the meaning of each field."""

    n_episodes: int = option(
        _RUN, 2500, "episodes of the whole training, those before a resume included", at_least(1), short="n"
    )
    training_env_config: str = option(
        _RUN,
        "0",
        f"environment to train on: {ENVIRONMENTS_IN_WORDS}; given several times, or with commas between: all of them, "
        "from easy to hard",
        short="t",
        repeatable=True,
        runs_code=any_names_files,
    )
    curriculum: bool = option(
        _RUN,
        True,
        "with several environments to train on: begin with the first, and add the next one when the newest is mastered "
        "or no longer gets better; False: all of them from the beginning",
    )
    evaluation_env_config: str = option(
        _RUN, "0", f"environment to evaluate on: {ENVIRONMENTS_IN_WORDS}", short="e", runs_code=names_files
    )
    rewards: str = option(
        _RUN,
        DEFAULT_REWARDS,
        f"what both environments reward, and scores count: {', '.join(REWARDS)}, or a class of your own as "
        "package.module:Class",
        runs_code=has_colon,
    )
    n_evaluation_episodes: int = option(_RUN, 25, "fixed levels that each evaluation plays", whole(1, 100_000))
    checkpoint_interval: int = option(_RUN, 100, "episodes between evaluations, each with a checkpoint", at_least(1))
    seed: int = option(_RUN, 0, "all random numbers derive from it", at_least(0), fixed=True)
    resume: str = option(
        _RUN, "", "checkpoint to go on from: a path, or latest for the newest complete one of --checkpoint_dir"
    )
    run_name: str = option(_RUN, "", "name of the run and of its folders (default: environment, seed, date and time)")

    eps_start: float = option(_EXPLORE, 1.0, "share of random actions in the first episode", between(0, 1))
    eps_end: float = option(_EXPLORE, 0.01, "smallest share of random actions", between(0, 1))
    eps_decay: float = option(_EXPLORE, 0.995, "factor on the share after each episode", above(0, 1))
    guided_exploration: float = option(
        _EXPLORE,
        0.7,
        "share of the random actions that are replaced by the way with the least detour (needs tree_routes, tree_plan)",
        between(0, 1),
    )

    demonstrations: float = option(
        _EXPLORE,
        1.0,
        "share of the first episodes that a plan in space and time plays, to be learned from; it falls in a straight "
        "line to 0 in the last episode",
        between(0, 1),
    )
    dagger: bool = option(
        _EXPLORE,
        True,
        "where the plan is among the features: learn also from what it would have done in the policy's own episodes",
    )

    buffer_size: int = option(_LEARN, 100_000, "transitions that the replay buffer holds", at_least(1))
    buffer_min_size: int = option(
        _LEARN, 1_000, "transitions to collect before learning starts (at least one batch)", at_least(0)
    )
    batch_size: int = option(_LEARN, 128, "transitions in a learning step", at_least(1))
    update_every: int = option(_LEARN, 128, "transitions collected for each learning step", at_least(1))
    gamma: float = option(_LEARN, 0.995, "discount for each step of the environment", between(0, 1))
    n_step: int = option(_LEARN, 3, "decisions of a train between a state and its bootstrap state", whole(1, 1_000))
    learning_rate: float = option(_LEARN, 3e-4, "step size of Adam", above(0, 1))
    learning_rate_end_factor: float = option(
        _LEARN,
        1.0,
        "share of the learning rate that is left in the last episode; it falls in a straight line, 1 keeps it",
        between(0, 1),
    )
    tau: float = option(_LEARN, 1e-3, "share of the network that the target takes over each step", above(0, 1))
    advantage_learning: float = option(
        _LEARN, 0.7, "weight of advantage learning, which widens the gap between actions; 0 is off", between(0, 0.999)
    )
    averaging_steps: int = option(
        _LEARN, 2_000, "learning steps over which the weights that are evaluated are averaged; 1 is off", at_least(1)
    )
    max_grad_norm: float = option(_LEARN, 10.0, "gradients are clipped to this norm", above(0))
    network: str = option(
        _LEARN,
        "dueling",
        "what gives the values of the actions: dueling; attention, with which trains see their neighbours; or a "
        "network of your own as package.module:callable; given several times: one for each policy",
        fixed=True,
        repeatable=True,
        runs_code=has_colon,
    )
    hidden_size: int = option(
        _LEARN, 128, "width of the hidden layers of the networks on board", whole(1, 16_384), fixed=True
    )

    shaping: float = option(
        _REWARD, 1.0, "weight of potential-based shaping by the remaining travel time; 0 is off", not_negative()
    )
    arrival_reward: float = option(_REWARD, 1.0, "reward for reaching the target", not_negative())
    deadlock_penalty: float = option(_REWARD, 0.5, "penalty for entering a deadlock", not_negative())
    learning_reward: str = option(
        _REWARD,
        "",
        "a reward of your own as package.module:callable, in place of the environment's and the three terms above; "
        "--team_reward still shares it out",
        runs_code=has_colon,
    )
    team_reward: float = option(
        _REWARD,
        0.0,
        "weight of each other train's rewards in a train's own, those after its arrival included; 0 is off",
        between(0.0, 1.0),
    )

    feature_set: str = option(_INPUT, "tree_plan", "what a train observes", one_of(*FEATURE_SETS), fixed=True)
    features: str = option(
        _INPUT,
        "none",
        "more features of a train, which follow those of the feature set: none, or your own as package.module:callable",
        fixed=True,
        runs_code=has_colon,
    )
    action_mask: bool = option(_INPUT, True, "choose among the possible actions only")
    decision_points: str = option(
        _INPUT,
        DEFAULT_DECISION_POINTS,
        "where a train on the map chooses: in every cell, to stop or go; or only where there are several ways on, and "
        "it stops only if it must",
        one_of(*DECISION_POINTS),
    )
    safe_moves: bool = option(_INPUT, True, "rule out moves that could end in a deadlock")

    num_policies: int = option(
        _POLICIES, 1, "policies trained at once, which drive different trains", whole(1, 256), fixed=True
    )
    policy_mapping: str = option(
        _POLICIES,
        "random",
        "which policy drives which train: random, round_robin, by_handle, by_speed, shared, or a rule of your own as "
        "package.module:callable",
        runs_code=has_colon,
    )
    mix_policies_in_one_env: bool = option(
        _POLICIES,
        True,
        "trains of one environment may have different policies; False: all trains of an environment share one",
        also="pbt_mix_policies_in_one_env",  # Sample Factory's name
    )
    resample_policies_every: int = option(
        _POLICIES, 10, "episodes of an environment after which its trains get policies anew", at_least(1)
    )
    policy_mode: str = option(
        _POLICIES,
        "mixed",
        "mixed: as the mapping says; synchronous: environment e belongs to policy e modulo their number for ever; "
        "batched: each policy has a group of environments, and the groups change hands; asynchronous: as mixed, and "
        "--async_rl, which it asks for",
        one_of("mixed", "synchronous", "batched", "asynchronous"),
    )
    cross_play: bool = option(
        _POLICIES, True, "score each policy alone, every pair and the training's mapping at the end"
    )
    partner_snapshot_prob: float = option(
        _POLICIES,
        0.0,
        "share of the trains that an older copy of their policy drives, not learned from",
        between(0, 0.9),
    )
    partner_snapshot_every: int = option(_POLICIES, 100, "episodes from one older copy to the next", at_least(1))
    with_pbt: bool = option(
        _POLICIES, False, "population-based training: bad policies take over from good ones, and settings vary"
    )
    pbt_start_episodes: int = option(_POLICIES, 1_000, "episodes before the first exchange", at_least(0))
    pbt_period_episodes: int = option(_POLICIES, 500, "episodes from one exchange to the next", at_least(1))
    pbt_objective: str = option(
        _POLICIES,
        "score",
        "what policies are ranked by: score, completion, deadlocked, never_departed or nb_steps of the evaluation, or "
        "a function of your own as package.module:callable",
        runs_code=has_colon,
    )
    pbt_share: float = option(_POLICIES, 0.25, "share of the policies left alone, and share replaced", above(0, 0.5))
    pbt_min_gap: float = option(
        _POLICIES, 0.01, "least difference in the objective for which a policy is replaced", not_negative()
    )
    pbt_min_errors: float = option(
        _POLICIES, 2.0, "the same in standard errors of the difference, level by level; 0: any", not_negative()
    )
    pbt_gamma: bool = option(_POLICIES, False, "let gamma vary, too")

    checkpoint_dir: str = option(_FILES, str(PROJECT_ROOT / "checkpoints"), "folder for checkpoints", FOLDER)
    keep_checkpoints: int = option(_FILES, 3, "newest checkpoints kept beside the best one", at_least(1))
    replay_buffer_dir: str = option(
        _FILES, str(PROJECT_ROOT / "replay_buffers"), "folder for saved replay buffers", FOLDER
    )
    save_replay_buffer: bool = option(_FILES, False, "save the replay buffer with each checkpoint")
    restore_replay_buffer: str = option(_FILES, "", "saved replay buffer (.npz) to start with")
    output_dir: str = option(_FILES, str(PROJECT_ROOT / "runs"), "folder for metrics and pictures", FOLDER)

    progress_bar: bool = option(_TRACK, True, "a progress bar where there is a terminal; False: plain lines")
    jsonl: bool = option(_TRACK, True, "metrics as JSON lines: metrics.jsonl")
    tensorboard: bool = option(
        _TRACK,
        True,
        "TensorBoard files: tensorboard --logdir runs, then Custom Scalars for all main curves on one page",
    )
    wandb: bool = option(_TRACK, True, "Weights & Biases: online with an API key, offline without one")
    wandb_project: str = option(_TRACK, "flatland-multi-agent-dqn", "project on Weights & Biases")
    learning_curve: bool = option(_TRACK, True, "draw learning_curve.png at the end")
    render: bool = option(_TRACK, False, "write an animated picture of an episode at each evaluation")

    num_envs: int = option(_MACHINE, 8, "environments played side by side, which share a forward pass", whole(1, 4096))
    num_workers: int = option(
        _MACHINE,
        0,
        "processes that play beside the one that learns, --num_envs environments each; 0: that one plays as well",
        whole(0, 1_024),
    )
    async_rl: bool = option(
        _MACHINE,
        False,
        "play and learn side by side on Ray, on one machine or several: --num_workers rollout actors, at least one, "
        "and a learner for each policy; needs pip install -r requirements-ray.txt",
    )
    ray_address: str = option(
        _MACHINE,
        "",
        "a running Ray cluster for --async_rl, such as 10.0.0.5:6379, or auto for the one of this machine; without it "
        "one is started here and ended with the training",
        runs_code=has_colon,
    )
    broadcast_every: int = option(
        _MACHINE,
        8,
        "learning steps of a policy after which what plays elsewhere gets its weights: rollout actors of --async_rl, "
        "and all that play where learning is on a GPU",
        at_least(1),
    )
    simulator: str = option(
        _MACHINE,
        "compiled",
        "what moves the trains in training: compiled, the fast twin that is equal to flatland-rl step by step, or "
        "flatland, flatland-rl itself, which the last evaluation always uses",
        one_of("compiled", "flatland"),
    )
    level_workers: int = option(
        _MACHINE,
        1,
        "background processes that make training levels, and their first plans, ahead for the compiled simulator; "
        "0: the training process makes them itself",
        whole(0, 1_024),
    )
    use_gpu: bool = option(_MACHINE, False, "learn on GPUs where there are any: policy p on GPU p modulo their number")
    devices: str = option(
        _MACHINE,
        "",
        "devices to share out the policies to instead, such as cuda:1,cuda:0 or cuda:0,cpu; the policies of each learn "
        "in a process of their own, also with cpu:0,cpu:1",
    )
    num_threads: int = option(_MACHINE, 1, "threads that PyTorch uses on the CPU", whole(1, 1_024))

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            ConfigError: a value is not accepted; the sentence names the option, the value and what is accepted.
        """
        for row in dataclasses.fields(self):
            value, accepts = getattr(self, row.name), row.metadata["accepts"]
            if not accepts.test(value):
                raise ConfigError(f"--{row.name} is {value!r}, but must be {accepts.words}.")
        try:
            find_rewards(self.rewards)
        except ExtensionError as error:
            raise ConfigError(f"--rewards: {error}") from error
        for name, environment in (("training_env_config", "training_env"), ("evaluation_env_config", "evaluation_env")):
            try:
                getattr(self, environment)
            except ValueError as error:  # such as an EnvConfigError
                raise ConfigError(f"--{name}: {error}") from error
        for smaller, larger in (
            ("eps_end", "eps_start"),
            ("batch_size", "buffer_size"),
            ("buffer_min_size", "buffer_size"),
        ):
            value, most = getattr(self, smaller), getattr(self, larger)
            if value > most:
                raise ConfigError(f"--{smaller} is {value}, but must be at most --{larger}, {most}.")
        n_networks = len(self.network.split(","))
        if n_networks not in (1, self.num_policies):
            raise ConfigError(
                f"--network names {n_networks} networks, but --num_policies is {self.num_policies}: give one for all "
                "policies, or one for each."
            )
        if self.run_name and (Path(self.run_name).name != self.run_name or self.run_name.startswith(".")):
            raise ConfigError(f"--run_name is {self.run_name!r}, but must be a plain folder name.")

    @cached_property
    def training_env(self) -> TrainingEnvironment:
        """The environment that is trained on, or all of them."""
        environments = tuple(map(self._rewarded, resolve_environments(self.training_env_config)))
        return environments[0] if len(environments) == 1 else Mixture(environments)

    @cached_property
    def evaluation_env(self) -> Environment:
        """The environment that evaluations play."""
        return self._rewarded(resolve_env_config(self.evaluation_env_config))

    def _rewarded(self, environment: Environment) -> Environment:
        return dataclasses.replace(environment, rewards=find_rewards(self.rewards))

    @property
    def plans(self) -> bool:
        """Whether levels are planned, for the features or as demonstrations."""
        return self.demonstrations > 0.0 or FEATURE_SETS[self.feature_set].with_plan

    @property
    def asks_plan(self) -> bool:
        """Whether the plan's actions count in episodes that it does not drive; it is known there anyway."""
        return self.dagger and self.demonstrations > 0.0 and FEATURE_SETS[self.feature_set].with_plan

    def as_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: folders that are the project's own are left out, as the project may move."""
        return {
            row.name: getattr(self, row.name)
            for row in dataclasses.fields(self)
            if row.metadata["group"] != _FILES or getattr(self, row.name) != row.default
        }


DUELING, ATTENTION = TrainingConfig.network, "attention"
NETWORKS = {DUELING: 0, ATTENTION: 5}
"""The networks on board, and how many neighbours of a train each looks at."""

PLACES = frozenset(
    row.name
    for row in dataclasses.fields(TrainingConfig)
    if row.metadata["group"] == _FILES and type(row.default) is str
) | {"resume", "run_name"}
"""Options that name files and folders of one machine, or runs on it."""


def make_config(options: dict[str, Any], stored: dict[str, Any] | None = None) -> TrainingConfig:
    """The configuration of a run: defaults, then what a checkpoint holds, then the options that were given.

    Raises:
        ConfigError: a value is not accepted, a resumed training would change an option that is fixed, or the checkpoint
            names code or a file to unpickle that the options do not name.
    """
    stored = {name: value for name, value in (stored or {}).items() if name in _FIELD_NAMES}
    if stored.get("with_pbt"):
        stored = _PBT_OF_EARLIER_VERSIONS | stored
    _check_stored(options, stored)
    config = TrainingConfig(**{**stored, **options})
    _check_effects(config, options)
    # files and folders are found again by a resumed training that is started from another folder
    absolute: dict[str, Any] = {
        name: str(Path(getattr(config, name)).resolve())
        for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")
    }
    absolute["training_env_config"] = with_absolute_paths(config.training_env_config)
    absolute["evaluation_env_config"] = with_absolute_path(config.evaluation_env_config)
    return dataclasses.replace(config, **absolute)


def _check_effects(config: TrainingConfig, options: dict[str, Any]) -> None:
    """Refuses options that were given and that others make meaningless."""
    no_effect: dict[str, str] = {}
    if config.learning_reward:
        instead = f"with --learning_reward {config.learning_reward}, which takes its place: give one of the two"
        no_effect = dict.fromkeys(("shaping", "arrival_reward", "deadlock_penalty"), instead)
    if not NETWORKS.keys() & set(config.network.split(",")):
        no_effect["hidden_size"] = f"with --network {config.network}: it is for {' and '.join(NETWORKS)}"
    if config.ray_address and not config.async_rl:
        no_effect["ray_address"] = "without --async_rl: add that, or leave it out"
    if not isinstance(config.training_env, Mixture):
        no_effect["curriculum"] = "with one environment to train on: give --training_env_config several times"
    if config.dagger and not config.asks_plan:
        no_effect["dagger"] = "here: it needs --demonstrations above 0, and a plan among the features (tree_plan)"
    for name in no_effect.keys() & options.keys():
        raise ConfigError(f"--{name} has no effect {no_effect[name]}.")


def _check_stored(options: dict[str, Any], stored: dict[str, Any]) -> None:
    """Refuses what must not change, and what a checkpoint must not name alone; see :func:`make_config`."""
    for row in dataclasses.fields(TrainingConfig):
        name = row.name
        trained_with = stored.get(name, row.default)  # earlier versions did not have all options
        if row.metadata["fixed"] and stored and options.get(name, trained_with) != trained_with:
            raise ConfigError(
                f"--{name} is {options[name]!r}, but the checkpoint was trained with {trained_with!r}, "
                "which cannot change."
            )
    runs_code = {row.name: row.metadata["runs_code"] for row in dataclasses.fields(TrainingConfig)}
    try:
        check_named_by_user({name: value for name, value in stored.items() if runs_code[name](value)}, options)
    except ExtensionError as error:
        raise ConfigError(str(error)) from error


def options_to_repeat(config: TrainingConfig) -> list[str]:
    """What a command line that resumes a training must say again: options whose values run code."""
    repeated = []
    for row in dataclasses.fields(config):
        value = getattr(config, row.name)
        if row.metadata["runs_code"](value):
            repeated += [f"--{row.name}", value]
    return repeated


_PBT_OF_EARLIER_VERSIONS: dict[str, Any] = {"pbt_start_episodes": 0, "pbt_min_errors": 0.0}
"""What population-based training did before there were these options."""

_FIELD_NAMES = {row.name for row in dataclasses.fields(TrainingConfig)}
