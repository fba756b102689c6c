import pytest

from steer_lit.bench.seed_groups import group_seeds


def test_equal_names_before_the_at_sign_form_a_group() -> None:
    names = ["sft", "full@1", "no_tcsr@1", "full@2", "a@b@1", "a@b@2", "@1", "@2"]
    groups = {"full": ["full@1", "full@2"], "a@b": ["a@b@1", "a@b@2"]}
    others = {name: [name] for name in ("sft", "no_tcsr@1", "@1", "@2")}
    assert group_seeds(names) == {**groups, **others}
    assert list(group_seeds(names)) == ["sft", "full", "no_tcsr@1", "a@b", "@1", "@2"]
    assert list(group_seeds(["x@1", "x@2", "x"])) == ["x@1", "x@2", "x"]  # the name is taken
    assert group_seeds(["x@10", *(f"x@{seed}" for seed in range(1, 10))]) == {
        "x": ["x@10", *(f"x@{s}" for s in range(1, 10))]
    }


@pytest.mark.parametrize("numbers", [("20240229", "20240620"), ("1", "3"), ("2", "3"), ("1", "02"), ("1", "2", "2b")])
def test_names_not_numbered_from_1_form_no_group(numbers: tuple[str, ...]) -> None:
    names = [f"claude-3@{number}" for number in numbers]
    assert group_seeds(names) == {name: [name] for name in names}
