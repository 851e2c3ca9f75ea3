"""The two caches: replies of language models, and features of encoders; and the wrappers that use them."""

from descbench.store.cached import CachedLLM
from descbench.store.features import CachedEncoder
from descbench.store.replies import ReplyStore

__all__ = ["CachedEncoder", "CachedLLM", "ReplyStore"]
