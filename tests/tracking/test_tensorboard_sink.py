"""The page of TensorBoard, read back with TensorBoard's own reader after real trainings."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.summary.writer import event_file_writer
from tensorboard.util.tensor_util import make_ndarray

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.tracking.tensorboard_sink import HYPERPARAMETERS, TensorBoardSink, layout
from tests.helpers.tiny_training import SMALL, make_trainer

MIXTURE = {"training_env_config": "Tiny,Test_0", "curriculum": False}
SEVERAL = {"num_policies": 2, "with_pbt": True, "pbt_start_episodes": 0, "pbt_period_episodes": 3}


def train(folder: Path, **options: Any) -> EventAccumulator:
    """What TensorBoard reads of a small training."""
    config = TrainingConfig(**{**SMALL, **options}).as_dict()
    sink = TensorBoardSink(folder / "events", config=config)
    trainer, _ = make_trainer(folder, sinks=[sink], n_episodes=6, **options)
    with trainer.metrics:
        trainer.run()
    return read(folder / "events")


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def charts(accumulator: EventAccumulator, *of_policies: EventAccumulator) -> dict[str, dict[str, list[str]]]:
    """Group -> chart -> the metrics in it; patterns are matched as the server of TensorBoard does it."""
    layout = Layout()
    (event,) = accumulator.Tensors("custom_scalars__config__")
    layout.ParseFromString(make_ndarray(event.tensor_proto).item())
    names = sorted({name for one in (accumulator, *of_policies) for name in one.Tags()["scalars"]})
    return {
        group.title: {
            chart.title: [n for pattern in chart.multiline.tag for n in names if re.match(pattern, n)]
            for chart in group.chart
        }
        for group in layout.category
    }


@pytest.mark.parametrize(
    ("options", "groups"),
    [({}, []), (MIXTURE, ["environments"]), (SEVERAL, ["policies", "hyper-parameters"])],
    ids=["one policy", "several environments", "several policies"],
)
def test_every_chart_has_its_metrics(tmp_path, options, groups):
    total = train(tmp_path, **options)
    of_policies = [read(folder) for folder in sorted((tmp_path / "events").glob("policy_*"))]
    page = charts(total, *of_policies)
    assert list(page) == ["learning", *groups, "speed"]
    empty = [(group, chart) for group, titles in page.items() for chart, names in titles.items() if not names]
    assert empty == []
    assert page["learning"]["score"] == [
        "evaluation/scores_mean",
        "evaluation/smoothed_score",
        "training/smoothed_score",
    ]
    for titles in page.values():
        for chart, names in titles.items():
            assert len(names) == len(set(names)), chart
    # a folder has a colour: so each policy has its own, and the chart shows all under one name
    assert len(of_policies) == options.get("num_policies", 0)
    assert not [name for name in total.Tags()["scalars"] if name.startswith("policy")]
    for of_policy in of_policies:
        assert "policy/evaluation/scores_mean" in of_policy.Tags()["scalars"]


def test_every_hyper_parameter_has_an_axis_of_its_own() -> None:
    assert {field.name for field in dataclasses.fields(Hyperparameters)} == set(HYPERPARAMETERS)
    page = layout(TrainingConfig(**{**SMALL, **SEVERAL}).as_dict())["hyper-parameters"]
    assert page == {name: ["Multiline", [f"policy/pbt/{name}$"]] for name in HYPERPARAMETERS}


def test_resume_hides_later_rows_of_every_policy(tmp_path, monkeypatch):
    # of files made in one second the order of their numbers counts, as text: 10 would come before 9
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for resume, values in ((None, (1.0, 2.0, 3.0)), (2, (30.0, 40.0))):
        sink = TensorBoardSink(tmp_path, resume_episode=resume)
        for episode, value in enumerate(values, start=1 + (resume or 0)):
            sink.log(episode, {"policy_01/training/loss": value})
        sink.close()
    accumulator = EventAccumulator(str(tmp_path / "policy_01"), purge_orphaned_data=True)
    accumulator.Reload()
    shown = [(event.step, event.value) for event in accumulator.Scalars("policy/training/loss")]
    assert shown == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


def test_replay_ratio_is_what_was_learned_from_per_transition(tmp_path):
    accumulator = train(tmp_path, batch_size=16, update_every=8, buffer_min_size=0, buffer_size=5000, n_step=1)
    ratio = accumulator.Scalars("throughput/replay_ratio")[-1].value
    # a batch of 16 for every 8 transitions, but for those before the first batch
    assert 1.5 < ratio <= 2.0


def test_configuration_is_shown(tmp_path):
    accumulator = train(tmp_path)
    (event,) = accumulator.Tensors("configuration/text_summary")
    (text,) = make_ndarray(event.tensor_proto)
    assert "| hidden_size | 16 |" in text.decode()
