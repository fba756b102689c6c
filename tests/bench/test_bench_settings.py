import pytest

from steer_lit.errors import ConfigError
from tests.settings import bench_settings


def test_settings_report_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        bench_settings(max_turns=0, resamples=5, safety_threshold=4)
    assert [problem.key for problem in caught.value.problems] == ["max_turns", "safety_threshold", "resamples"]
