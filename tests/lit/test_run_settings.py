"""A run's settings as TensorBoard shows them."""

from steer_lit.lit.run_settings import flat


def test_settings_are_flattened_to_what_tensorboard_shows() -> None:
    settings = {"a": {"b": 1, "_target_": "x.Y", "c": {"d": None, "e": [1, 2]}}, "f": True}
    assert flat(settings) == {"a.b": 1, "a.c.e": "[1, 2]", "f": True}
