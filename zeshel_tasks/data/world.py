"""One world's documents and the mentions among them: checks a mention, and cuts its context."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import partial
from itertools import accumulate, islice
from typing import Any
from unicodedata import normalize

from zeshel_tasks.data.zeshel import Context, Document, Mention
from zeshel_tasks.errors import DataError

NAMES = ("mention_id", "category", "context_document_id", "label_document_id")
"""Fields of a mention that BLINK's format drops."""


class Page:
    """A text and the places of its tokens, so that the time to find a span does not depend on the text's length.

    Single spaces separate tokens, so two consecutive spaces have an empty token between them. Takes 4 bytes a token.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        # Where each token starts, and where one after the last would.
        self._starts = array("I", accumulate((len(token) + 1 for token in text.split(" ")), initial=0))

    def __len__(self) -> int:
        """Returns the number of tokens."""
        return len(self._starts) - 1

    def span(self, start: int, end: int) -> str:
        """Returns the tokens from ``start`` to before ``end``, which may be beyond the edges of the text."""
        start, end = max(0, start), min(len(self), end)
        return self._text[self._starts[start] : self._starts[end] - 1] if start < end else ""


class World:
    """One world's documents and contexts, in memory, and the mentions among them.

    Raises:
        DataError: a context has the id of a document.
    """

    def __init__(self, name: str, documents: Iterable[Document], contexts: Iterable[Context] = ()) -> None:
        self.name = name
        self._pages: dict[str, Page] = {}
        self._documents = {document.document_id: (index, document) for index, document in enumerate(documents)}
        self._contexts = {context.document_id: context for context in contexts}
        if both := self._contexts.keys() & self._documents.keys():
            expected = f"no id of documents/{name}.json"
            raise DataError(
                "both a document and a context", file=f"contexts/{name}.json", expected=expected, got=min(both)
            )

    def check(self, mention: Mention, file: str) -> None:
        """Checks that the mention's documents exist and that its span contains its text; ``file`` is for messages.

        The comparison of the text ignores case, as in BLINK.

        Raises:
            DataError: a document is missing, or the span is wrong.
        """
        error = partial(DataError, file=file, line=mention.line)
        for field in ("context_document_id", "label_document_id"):
            got = getattr(mention, field)
            if got not in self._documents and (field == "label_document_id" or got not in self._contexts):
                expected = f"a document of documents/{self.name}.json{self._like(got)}"
                raise error("unknown document", field=field, expected=expected, got=got)
        page = self._page(mention)
        start, end = mention.start_index, mention.end_index
        if start > end:
            raise error("reversed span", field="end_index", expected=f"start_index ({start}) or more", got=end)
        if end >= len(page):
            raise error("span out of range", field="end_index", expected=f"less than {len(page)} tokens", got=end)
        found = page.span(start, end + 1)
        if found.lower() != mention.text.lower():
            expected = f"{found!r}, tokens {start} to {end} of {mention.context_document_id}"
            raise error("text differs from its tokens", field="text", expected=expected, got=repr(mention.text))

    def convert(self, mention: Mention, context_tokens: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Converts a checked mention to an object of BLINK's format, with keys in BLINK's order, and one beside it."""
        page = self._page(mention)
        start, end = mention.start_index, mention.end_index + 1
        label_id, label = self._documents[mention.label_document_id]
        cased = {
            "context_left": page.span(start - context_tokens, start),
            "mention": page.span(start, end),
            "context_right": page.span(end, end + context_tokens),
        }
        blink = {
            "context_left": cased["context_left"].lower(),
            "context_right": cased["context_right"].lower(),
            "mention": mention.text.lower(),
            "label": label.text,
            "label_id": label_id,
            "label_title": label.title,
            "world": self.name,
        }
        return blink, {name: getattr(mention, name) for name in NAMES} | cased

    def _like(self, name: str) -> str:
        """Returns the id of a document that looks like ``name``, for a message that tells them apart."""
        form = normalize("NFC", name)
        found = () if name.isascii() else (known for known in self._documents if normalize("NFC", known) == form)
        return "".join(f", such as {known}" for known in islice(found, 1))

    def _page(self, mention: Mention) -> Page:
        name = mention.context_document_id
        if name not in self._pages:
            page = self._contexts[name] if name in self._contexts else self._documents[name][1]
            self._pages[name] = Page(page.text)
        return self._pages[name]
