"""One client for any OpenAI-compatible server: tutors, attackers, judges and synthesis all speak through it."""

from steer_lit.chat.client import ChatClient, greet_all
from steer_lit.chat.health import ChatUsage
from steer_lit.chat.messages import ChatMessage, ChatReply, ChatRequest
from steer_lit.chat.settings import ChatSettings

__all__ = ["ChatClient", "ChatMessage", "ChatReply", "ChatRequest", "ChatSettings", "ChatUsage", "greet_all"]
