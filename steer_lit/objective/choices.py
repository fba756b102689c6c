"""Names of the choices in the objective's config, kept apart so that config checks need no torch."""

from typing import Literal

Scale = Literal["none", "group"]
Normaliser = Literal["dialogue_sum", "dialogue", "token", "constant"]
KlEstimator = Literal["k3", "k2", "k1_reward"]
