"""The page of TensorBoard, read back with TensorBoard's own reader after real trainings."""

import re
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.util.tensor_util import make_ndarray

from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.tracking.tensorboard_sink import TensorBoardSink
from tests.helpers.tiny_training import SMALL, make_trainer

SEVERAL = {"num_policies": 2, "with_pbt": True, "pbt_period_episodes": 3}


def train(folder: Path, **options: Any) -> EventAccumulator:
    """What TensorBoard reads of a small training."""
    config = TrainingConfig(**{**SMALL, **options}).as_dict()
    sink = TensorBoardSink(folder / "events", config=config)
    trainer, _ = make_trainer(folder, sinks=[sink], n_episodes=6, **options)
    with trainer.metrics:
        trainer.run()
    accumulator = EventAccumulator(str(folder / "events"))
    accumulator.Reload()
    return accumulator


def charts(accumulator: EventAccumulator) -> dict[str, dict[str, list[str]]]:
    """Group -> chart -> the metrics in it; patterns are matched as the server of TensorBoard does it."""
    layout = Layout()
    (event,) = accumulator.Tensors("custom_scalars__config__")
    layout.ParseFromString(make_ndarray(event.tensor_proto).item())
    names = accumulator.Tags()["scalars"]
    return {
        group.title: {
            chart.title: [n for pattern in chart.multiline.tag for n in names if re.match(pattern, n)]
            for chart in group.chart
        }
        for group in layout.category
    }


@pytest.mark.parametrize("options", [{}, SEVERAL], ids=["one policy", "several policies"])
def test_every_chart_has_its_metrics(tmp_path, options):
    page = charts(train(tmp_path, **options))
    assert [group for group in page if group != "policies"] == ["learning", "speed"]
    assert ("policies" in page) == bool(options)
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
    if options:
        assert sorted(page["policies"]["score of each policy alone"]) == [
            "policy_00/evaluation/scores_mean",
            "policy_01/evaluation/scores_mean",
        ]


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
