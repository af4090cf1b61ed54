"""The trigger form of the DAG ``zeshel_link``, generated from the settings of its commands."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from airflow.sdk import Param
from pydantic import Field

from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.config.stage_config import ADDRESS, ADDRESS_PATTERN, PRINTABLE, StageConfig, takes
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.bad_rows import MaxSkipped
from zeshel_tasks.importing.entity_formats import ENTITY_FORMATS
from zeshel_tasks.knowledge_base.head import MAX_NAME_BYTES, checked_name
from zeshel_tasks.location import MAX_CHARACTERS, store_location
from zeshel_tasks.orchestration.params import optional_schema, run_config_of, value_text
from zeshel_tasks.orchestration.settings import RunConfig
from zeshel_tasks.recipe import build_settings
from zeshel_tasks.store.runs import run_location

DEFAULT = "default"
_GPUS = (
    "1: each task that runs a model has a GPU. 0: use the CPU. Empty: the deployment's default for pods, or the "
    "machine's GPUs without pods. Takes ≥ 0, ≤ 64."
)
ENTITIES_SECTION, LINKS_SECTION = "Entities", "Links"
ENTITIES = "entities."
REQUIRED = ("kb", "in", "out")
OF_THE_RUN = tuple(name for name in RunConfig.model_fields if name not in ("approve", "refresh"))

Address = Annotated[str, takes(store_location)]
Folder = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS, pattern=ADDRESS_PATTERN), takes(store_location)]
KnowledgeBaseName = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME_BYTES, pattern=rf"^{PRINTABLE}+$"), takes(checked_name)
]
Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=rf"^{PRINTABLE}+$")]


class LinkRun(StageConfig):
    """What one run of the DAG links."""

    kb: KnowledgeBaseName = Field(description="Name of the knowledge base; `zeshel kb list` shows those of the store.")
    source: Folder = Field(
        alias="in", description="Folder or `s3://bucket/prefix/`. Each of its `*.jsonl` files has texts to link."
    )
    target: Folder = Field(alias="out", description="Folder or `s3://bucket/prefix/` for the linked files.")
    run: Annotated[str, takes(run_location)] | None = Field(
        None,
        max_length=MAX_CHARACTERS,
        description="Run whose models link, `<store>/runs/<run id>`. Empty: the champion when this run starts.",
    )
    entities: tuple[Annotated[Address, ADDRESS], ...] = Field(
        (),
        max_length=1000,
        description="Files of entities, one on each line. The knowledge base gets exactly these; those that it has are "
        "not encoded again. Empty: it exists already.",
    )
    refresh: bool | None = Field(
        None,
        description="Encode the knowledge base again if another bi-encoder has encoded it. True: for any models, also "
        "if `zeshel serve` uses it with the champion. False: never; the run fails then. Empty: only for the champion's "
        "bi-encoder.",
    )
    sharded_from: int = Field(
        RetrievalConfig.model_fields["sharded_from"].default,
        ge=32,
        le=10**9,
        description="A knowledge base of more entities is encoded by several tasks, each with 20,000 of them or more.",
    )
    max_tasks: int = Field(
        100, ge=1, le=1000, description="Most link tasks. If there are more files, each task links several."
    )


class EntityFiles(StageConfig):
    """What the files of entities look like; see ``zeshel import-entities``."""

    format: Literal[tuple(ENTITY_FORMATS)] = Field("zeshel", description="Format of the files.")  # type: ignore[valid-type]
    id: Text | None = Field(None, description="Column of the entity's id.")
    title: Text | None = Field(None, description="Column of its title.")
    text: Text | None = Field(None, description="Column of its description.")
    url: Text | None = Field(None, description="Column of its address.")
    aliases: Text | None = Field(None, description="Column of its other names.")
    types: Text | None = Field(None, description="Column of its types.")
    template: Text | None = Field(
        None, description="Text of an entity without one: `{title}`, `{aliases}` or `{COLUMN}` is replaced."
    )
    separator: Text | None = Field(None, description="Separates aliases and types in one string.")
    delimiter: Text | None = Field(None, description="Between the fields of CSV.")
    language: Text | None = Field(None, description="Of the names in Wikidata.")
    max_skipped: Annotated[str, takes(MaxSkipped.parse)] | None = Field(
        None,
        pattern=r"^[0-9]{1,12}$|^[0-9]{1,3}([.][0-9]{1,6})?%$",
        description="How many rows that cannot be used may be skipped, or a share such as `1%`.",
    )


@dataclass(frozen=True)
class LinkRequest:
    """The Params of a run.

    Attributes:
        run: what to link.
        entity_files: what the files of entities look like, as far as it is given.
        settings: of :class:`~zeshel_tasks.config.link.LinkConfig`, those that are given.
    """

    run: LinkRun
    entity_files: dict[str, Any]
    settings: dict[str, Any]


def link_params(defaults: Mapping[str, Any] | None = None, fixed: Collection[str] = ()) -> dict[str, Param]:
    """Return all Params of the DAG but those that the deployment fixes. ``defaults`` override the built-in defaults.

    Raises:
        ConfigError: ``defaults`` contains an unknown name or a value that the form would reject.
    """
    defaults = dict(defaults or {})
    schemas = {name: schema for name, schema in link_schemas().items() if name not in fixed}
    if unknown := sorted(defaults.keys() - schemas.keys()):
        raise ConfigError(f"ZESHEL_LINK_DEFAULTS: expected names of the trigger form, got {', '.join(unknown)}")
    request_of({**dict.fromkeys(REQUIRED, "any"), **defaults})
    missing: dict[str, dict[str, Any]] = {name: {} for name in REQUIRED if name not in defaults}
    return {
        name: Param(**missing.get(name, {"default": defaults.get(name)}), schema=schema)
        for name, schema in schemas.items()
    }


@cache
def link_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each Param by name, in the order of the form."""
    schemas = _schemas(LinkRun)
    for name in REQUIRED:
        schemas[name] |= {"type": "string", "description_md": schemas[name]["description_md"]}
    of_the_run = _schemas(RunConfig, names=OF_THE_RUN)
    of_the_run["gpus"]["description_md"] = _GPUS
    entities = {ENTITIES + name: schema for name, schema in _schemas(EntityFiles, ENTITIES_SECTION).items()}
    return schemas | of_the_run | entities | _schemas(LinkConfig, LINKS_SECTION)


def request_of(params: Mapping[str, Any]) -> LinkRequest:
    """Return the checked Params of a run.

    Raises:
        ConfigError: a name is unknown, a value is out of range, or a required one is missing.
    """
    run_config_of(params)
    given = {name: value for name, value in params.items() if value is not None and name not in OF_THE_RUN}
    if unknown := sorted(given.keys() - link_schemas().keys()):
        raise ConfigError(f"{', '.join(unknown)}: expected names of the trigger form")
    fields = [field.alias or name for name, field in LinkRun.model_fields.items()]
    run = build_settings(LinkRun, {name: given.pop(name) for name in fields if name in given})
    files = {name.removeprefix(ENTITIES): given.pop(name) for name in [*given] if name.startswith(ENTITIES)}
    build_settings(EntityFiles, files)
    build_settings(LinkConfig, given)
    return LinkRequest(run, files, given)


def _schemas(
    model: type[StageConfig | RunConfig], section: str | None = None, names: tuple[str, ...] | None = None
) -> dict[str, dict[str, Any]]:
    """The schemas of a model's fields. The command has the defaults, so that an empty field is not given to it."""
    properties = model.model_json_schema()["properties"]
    found = {}
    for name, field in model.model_fields.items():
        shown = field.alias or name
        if names is None or name in names:
            text = field.description or ""
            if field.default not in (None, ()) and not field.is_required() and "by default" not in text:
                text = f"{text} Default: **{value_text(field.default)}**."
            found[shown] = optional_schema(properties[shown], title=shown, description=text, unset=DEFAULT)
            if section is not None:
                found[shown]["section"] = section
    return found
