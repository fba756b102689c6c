"""What the objective leaves open, by name. A check of a config reads these without torch."""

from typing import Literal

Scale = Literal["none", "group"]
Normaliser = Literal["dialogue_sum", "dialogue", "token", "constant"]
KlEstimator = Literal["k3", "k2", "k1_reward"]
