"""Mentions for tests."""

from zeshel_tasks.data.blink_format import BlinkMention


def blink_mention(left: str, mention: str, right: str) -> BlinkMention:
    """Returns a mention with this context, on the page ``page``."""
    return BlinkMention(left, mention, right, "text", 0, "title", "world", "id", "category", "page", "label")
