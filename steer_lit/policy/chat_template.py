"""The conversation format of Qwen2.5-VL, for models whose tokenizer does not include it.

Written from the published format, not copied: messages are `<|im_start|>role\n...<|im_end|>\n`, a default system
message is added if the first message is not one (TRAPS 3), and every picture is one `<|image_pad|>` between
`<|vision_start|>` and `<|vision_end|>`. Code that knows the picture's size repeats it once per visual token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
VISION_PAD = "<|vision_pad|>"
IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"

TEXT_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
VISION_TOKENS = (VISION_START, VISION_END, VISION_PAD, IMAGE_PAD, VIDEO_PAD)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_tokenizer(tokenizer_json: str, max_length: int) -> PreTrainedTokenizerBase:
    """Wrap a tokenizer that has the tokens above, given as JSON of the `tokenizers` library."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json),
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )


def vision_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the vision tokens' ids by their names in `Qwen2_5_VLConfig`."""
    names = {
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
        "image_token_id": IMAGE_PAD,
        "video_token_id": VIDEO_PAD,
    }
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
