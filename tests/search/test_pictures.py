"""Pictures of a search: points that can be found in the table of results."""

from pathlib import Path

import optuna
import pytest
from matplotlib import pyplot

from reinforcement_learning.hyperparameter_search import _draw_pictures


def test_points_have_the_numbers_of_their_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(direction="maximize")
    space = {
        "tau": optuna.distributions.FloatDistribution(0.1, 0.3),
        "mask": optuna.distributions.CategoricalDistribution([True, False]),
    }
    # trial 1 has no score, trials 2 and 3 have the same
    for value, tau in ((-0.5, 0.1), (None, 0.2), (-0.3, 0.2), (-0.3, 0.3)):
        state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
        params = {"tau": tau, "mask": tau > 0.15}
        study.add_trial(optuna.create_trial(params=params, distributions=space, value=value, state=state))
    written: dict[str, list[tuple[float, float, str]]] = {}

    def note(file: object, **options: object) -> None:
        texts = [text for axes in pyplot.gcf().axes for text in axes.texts]
        written[f"picture {len(written)}"] = [(*text.xy, text.get_text()) for text in texts]

    monkeypatch.setattr(pyplot, "savefig", note)
    _draw_pictures(study, "score", tmp_path)
    history, parameters = written.values()
    assert sorted(history) == [(0.0, -0.5, "0"), (2.0, -0.3, "2, 3"), (3.0, -0.3, "2, 3")]
    assert {text for *_, text in parameters} == {"0", "2, 3"}
