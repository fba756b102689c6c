"""Whether a hub model is read from the cache alone."""

from __future__ import annotations

import pytest

from steer_lit.errors import MissingResource
from steer_lit.policy import base_model_files, load
from steer_lit.policy.base_model import PLAIN


@pytest.mark.parametrize("found", ["snapshots/abc", ".no_exist/abc"])  # a file, or the mark that the hub has none
def test_the_hub_is_asked_unless_all_is_in_the_cache(tmp_path, monkeypatch, found):
    """The generation config is fetched once the weights are loaded: without it an end token would be forgotten."""
    asked = []

    def opened(source, settings, *, name, local_only=True):
        asked.append("cache" if local_only else "hub")
        raise MissingResource(source)

    def order():
        asked.clear()
        with pytest.raises(MissingResource):
            load.open_base("qwen2_5_vl_3b", PLAIN, "owner/name", None, None)
        return asked

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(load, "open_checkpoint", opened)
    assert order() == ["cache"]  # the tests set HF_HUB_OFFLINE
    monkeypatch.setattr(base_model_files, "is_offline", lambda: False)
    repository = tmp_path / "models--owner--name"
    for folder in ("refs", "snapshots/abc", found):
        (repository / folder).mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots/abc/model.safetensors").touch()
    assert order() == ["hub"]
    (repository / found / "generation_config.json").touch()
    assert order() == ["cache", "hub"]
    assert not base_model_files.was_fetched("./no/such/folder")
