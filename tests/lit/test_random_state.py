import io
import random

import numpy as np
import torch

from steer_lit.lit.random_state import random_state, restore_random_state


def draw() -> tuple[float, float, float, float]:
    return random.random(), random.gauss(0, 1), float(np.random.rand()), torch.rand(1).item()  # noqa: NPY002


def test_trap_33_random_state_loads_under_weights_only_and_continues_exactly() -> None:
    random.gauss(0, 1)  # creates a second normal number, which is kept in the state
    file = io.BytesIO()
    torch.save(random_state(), file)
    expected = [draw(), draw()]
    file.seek(0)
    restore_random_state(torch.load(file, weights_only=True))
    assert [draw(), draw()] == expected
