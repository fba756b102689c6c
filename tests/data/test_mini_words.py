from collections import Counter

from steer_lit.data.mini_phrases import PHRASES
from steer_lit.data.mini_words import TOPICS
from steer_lit.mini_world import COLOURS, FRAMINGS, OBJECTS, STRATEGIES

SPLITS = ("sft", "rl", "bench")


def paired(topics):
    return [side for pair in (*topics.acts, *topics.meanings) for side in (pair.harmful, pair.benign)]


def test_there_are_enough_topics_and_wordings():
    assert {split: (len(t.acts), len(t.actions), len(t.meanings), len(t.codewords)) for split, t in TOPICS.items()} == {
        "sft": (68, 28, 34, 22),
        "rl": (29, 16, 18, 21),
        "bench": (33, 16, 19, 22),
    }
    for phrases in PHRASES.values():
        for wordings in (phrases.describe, phrases.act, phrases.picture, phrases.setup, phrases.code):
            assert len(set(wordings)) >= 6
        assert tuple(phrases.framings) == tuple(FRAMINGS)
        assert tuple(phrases.pressure) == tuple(STRATEGIES)
        assert all(len(set(wordings)) >= 2 for wordings in (*phrases.framings.values(), *phrases.pressure.values()))


def test_splits_share_no_topic_and_no_wording():
    seen: Counter[str] = Counter()
    for split in SPLITS:
        topics, phrases = TOPICS[split], PHRASES[split]
        said = [*paired(topics), *phrases.wordings]
        said += [action.phrase for action in topics.actions] + list(topics.codewords)
        seen.update({text.lower() for text in said})
    assert [text for text, count in seen.items() if count > 1] == []


def test_no_topic_names_a_pictured_object_or_colour():
    """Otherwise an answer about the topic could count as one about the picture."""
    for topics in TOPICS.values():
        actions = [f"{action.subject} {action.phrase}" for action in topics.actions]
        said = [*paired(topics), *actions, *topics.codewords]
        words = {word for text in said for word in text.split()}
        assert not words & {*OBJECTS, *COLOURS}


def test_no_codeword_occurs_in_a_topic():
    for topics in TOPICS.values():
        words = {word for side in paired(topics) for word in side.split()}
        assert not words & set(topics.codewords)
