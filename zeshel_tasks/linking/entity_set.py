"""The entities among which mentions are linked: documents, tokens, vectors and lexical index in one local folder.

    entity_set.json                   fingerprint, bi-encoder and identity of the token table
    documents.jsonl, offsets.npy      see data/document_file.py
    tokens.npy, vectors.npy           see evaluation/entity_encoding.py
    index/                            see linking/lexical.py

The position of an entity is its row in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.document_file import DocumentFile
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.evaluation.approximate import ApproximateIndex
from zeshel_tasks.evaluation.entity_encoding import TOKENS, VECTORS, EntityEncoder
from zeshel_tasks.linking.lexical import LexicalIndex
from zeshel_tasks.linking.mention_texts import MentionText

INDEX = "index"
_DESCRIPTION = "entity_set.json"


class EntitySetDescription(BaseModel):
    """What ``entity_set.json`` says.

    Attributes:
        fingerprint: identifies the entities, their order, and the bi-encoder with the settings of their vectors.
        biencoder: fingerprint of the train-biencoder artifact that encoded the vectors.
        tokens_identity: :meth:`~zeshel_tasks.data.tokens.Tokens.identity` of the token table; None if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    fingerprint: str
    biencoder: str
    tokens_identity: str | None

    def write(self, folder: Path) -> None:
        """Writes the file. Its folder must have all other files."""
        (folder / _DESCRIPTION).write_text(self.model_dump_json(indent=1))


@dataclass(frozen=True)
class EntitySet:
    """The entities of an assembled folder. Everything is memory-mapped or read when needed.

    Attributes:
        folder: holds the files.
        name: of the knowledge base.
        fingerprint, biencoder, tokens_identity: see :class:`EntitySetDescription`.
        documents: the entities, by position.
        approximate: the index to search with instead of all vectors.
    """

    folder: Path
    name: str
    fingerprint: str
    biencoder: str
    tokens_identity: str | None
    documents: DocumentFile
    approximate: ApproximateIndex | None = None

    @classmethod
    def open(cls, folder: Path, name: str) -> EntitySet:
        """Opens a folder that has all files."""
        described = EntitySetDescription.model_validate_json((folder / _DESCRIPTION).read_bytes())
        return cls(folder, name, documents=DocumentFile(folder), **described.model_dump())

    @classmethod
    def write(
        cls, documents: Iterable[Document], encoder: EntityEncoder, biencoder: str, folder: Path, name: str
    ) -> EntitySet:
        """Encodes and indexes entities into the new folder ``folder``, without any store."""
        folder.mkdir(parents=True)
        count = DocumentFile.write(documents, folder)
        encoder.write(DocumentFile(folder), count, folder, name)
        (folder / INDEX).mkdir()
        LexicalIndex.write(DocumentFile(folder), folder / INDEX)
        EntitySetDescription(fingerprint=name, biencoder=biencoder, tokens_identity=encoder.tokens_identity).write(
            folder
        )
        return cls.open(folder, name)

    def __len__(self) -> int:
        """Returns the number of entities."""
        return len(self.documents)

    @property
    def tokens(self) -> TokenTable:
        """int32 [entities, max_cand_length], memory-mapped."""
        return read_array(self.folder / TOKENS, mapped=True)

    @cached_property
    def vectors(self) -> VectorFile:
        """The vectors, float32 or float16 [entities, dimension]."""
        return VectorFile(self.folder / VECTORS)

    @property
    def searched(self) -> VectorFile | ApproximateIndex:
        """What finds the candidates of a mention: the index if there is one, else the vectors."""
        return self.approximate or self.vectors

    def with_index(self, approximate: ApproximateIndex) -> EntitySet:
        """Returns the same entities, which are searched with an index."""
        return replace(self, approximate=approximate)

    @cached_property
    def index(self) -> LexicalIndex:
        """The lexical index of all entities."""
        return LexicalIndex(self.folder / INDEX)

    def page(self, document_id: str) -> Document | None:
        """Returns the entity with this id, if there is one."""
        position = self.position(document_id)
        return None if position is None else self.documents[position]

    def position(self, document_id: str) -> int | None:
        """Returns the position of the entity with this id, if there is one."""
        found = self.index.named("page", MentionText("", "", document_id))
        return int(found[0]) if len(found) else None
