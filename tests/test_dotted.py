from steer_lit.dotted import ABSENT, at, leaves, nodes, within

CONFIG = {"optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "policies": {}, "seed": None}


def test_a_value_is_found_by_its_dotted_key() -> None:
    assert at(CONFIG, "optim.lr") == 0.1
    assert at(CONFIG, "optim") == CONFIG["optim"]
    assert at(CONFIG, "seed") is None  # present, with the value None
    assert [at(CONFIG, key) for key in ("optim.decay", "optim.lr.low", "policies.base", "")] == [ABSENT] * 4


def test_a_key_is_within_itself_and_the_sections_above_it() -> None:
    assert within("data.source.rl", "data.source")
    assert within("data", "data")
    assert not within("database", "data")
    assert not within("data", "data.source")


def test_nodes_include_sections_before_their_contents() -> None:
    assert [key for key, _ in nodes(CONFIG)] == ["optim", "optim.lr", "optim.betas", "policies", "seed"]


def test_a_list_is_one_leaf_unless_its_items_are_asked_for() -> None:
    assert list(leaves(CONFIG)) == [("optim.lr", 0.1), ("optim.betas", [0.9, 0.99]), ("seed", None)]
    deeper = {"a": [{"b": 1}, [2], []]}
    assert list(leaves(deeper, lists=True)) == [("a.0.b", 1), ("a.1.0", 2)]
