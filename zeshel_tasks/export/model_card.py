"""The model card of exported models: README.md with metadata for the Hugging Face hub.

All figures are those of the artifacts' manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from pydantic import ValidationError

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.crossencoder import TrainCrossencoderConfig
from zeshel_tasks.config.splits import SPLITS
from zeshel_tasks.config.stage_config import StageConfig
from zeshel_tasks.data.tokens import MENTION_END, MENTION_START, TITLE_END
from zeshel_tasks.download.metrics import DownloadMetrics
from zeshel_tasks.download.stated import StatedOrigin
from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.metrics import RecallMetrics
from zeshel_tasks.export.source import Source
from zeshel_tasks.linking.metrics import FusionMetrics
from zeshel_tasks.location import DriveFile, HubModel, L, Parser, WebAddress, model_location, source_location
from zeshel_tasks.report.formats import count, percent
from zeshel_tasks.store import Manifest
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import one_line
from zeshel_tasks.training.metrics import TrainingMetrics

PLACE = 'folder = Path("path/to/this/folder")'
UNKNOWN_LICENSE = "unknown"
_TAGS = ["sentence-transformers", "entity-linking", "zero-shot", "bi-encoder", "cross-encoder", "blink"]
_ADDRESSES = {"bert_model", "biencoder_weights", "crossencoder_weights"}


def model_card(source: Source, *, license_id: str, candidates_run_code: bool) -> str:
    """Returns the content of README.md.

    Args:
        source: the exported models.
        license_id: identifier of a licence on the hub.
        candidates_run_code: True if the candidate encoder needs the code in its folder, too.

    Raises:
        DataError: a manifest has metrics or settings that this version does not know.
    """
    try:
        results = list(_results(source.manifests))
        parts = [
            _introduction(source),
            _usage(source, candidates_run_code=candidates_run_code),
            _evaluation(results),
            _training(source),
            _licence(source, license_id),
        ]
        metadata = _metadata(source, results, license_id)
    except (ValidationError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            "manifests whose metrics or settings this version does not know", file=f"the models of {source.run}",
            got=f"{type(error).__name__}: {' '.join(str(error).split())}",
        ) from error  # fmt: skip
    return f"---\n{metadata}\n---\n\n" + "\n".join(parts)


def for_the_hub(card: str, name: str) -> str:
    """Returns a model card whose example loads the models from a repository on the hub."""
    if PLACE not in card:
        return card  # edited, or done before
    library = "from sentence_transformers import"
    imported = card.replace(library, f"from huggingface_hub import snapshot_download\n{library}", 1)
    return imported.replace(PLACE, f'folder = Path(snapshot_download("{name}"))', 1)


class _Result:
    """What was measured on one split: rates by name of the metric, and the number of mentions."""

    def __init__(self, split: str, mentions: int, rates: dict[str, float | None]) -> None:
        self.split, self.mentions, self.rates = split, mentions, rates


def _results(manifests: Mapping[str, Manifest]) -> Iterator[_Result]:
    if "fuse" not in manifests:
        return
    for split, measured in FusionMetrics.model_validate(manifests["fuse"].metrics).splits.items():
        rates: dict[str, float | None] = {}
        if (retrieved := manifests.get(f"eval-biencoder-{split}")) is not None:
            found = RecallMetrics.model_validate(retrieved.metrics)
            recall = found.methods.get("biencoder", found.recall).micro
            for k in (min(recall), max(recall)):
                rates[f"recall@{k}, bi-encoder"] = recall[k]
        for name, accuracy in (("cross-encoder", measured.crossencoder), ("whole linker", measured.linker)):
            rates[f"normalized accuracy, {name}"] = accuracy.normalized_accuracy.micro
            rates[f"unnormalized accuracy, {name}"] = accuracy.unnormalized_accuracy.micro
        yield _Result(split, measured.linker.mentions, rates)


def _metadata(source: Source, results: Sequence[_Result], license_id: str) -> str:
    evaluated = [
        EvalResult(
            task_type="entity-linking",
            dataset_type="zeshel",
            dataset_name=", ".join(_data(source)) or "unknown",
            dataset_split=result.split,
            metric_type=name.partition(",")[0].replace(" ", "_"),
            metric_name=name,
            metric_value=rate,
        )
        for result in results
        for name, rate in result.rates.items()
        if rate is not None
    ]
    data = ModelCardData(
        license=license_id,
        library_name="sentence-transformers",
        tags=_TAGS,
        base_model=_base_models(source) or None,
        model_name=source.run if evaluated else None,
        eval_results=evaluated or None,
    )
    return str(data.to_yaml())


def _introduction(source: Source) -> str:
    return f"""\
# Entity linker of run {one_line(source.run)}

Links mentions in text to entities that have a title and a description, also to entities that were not seen in training.
A bi-encoder retrieves candidates: `mention_encoder/` and `candidate_encoder/` turn mentions and entities into vectors.
The cross-encoder in `cross_encoder/` reads the mention together with each candidate and scores the pair. The method is
[BLINK](https://arxiv.org/abs/1911.03814).
"""


def _usage(source: Source, *, candidates_run_code: bool) -> str:
    trusted = ", trust_remote_code=True"
    evaluated = source.manifests.get("eval-biencoder-test")
    top_k = "len(entities)" if evaluated is None else f"min({evaluated.config['top_k']}, len(entities))"
    return f"""\
## Use

```python
from pathlib import Path

from sentence_transformers import CrossEncoder, SentenceTransformer

{PLACE}
candidate_encoder = SentenceTransformer(str(folder / "candidate_encoder"){trusted if candidates_run_code else ""})
mention_encoder = SentenceTransformer(str(folder / "mention_encoder"){trusted})
cross_encoder = CrossEncoder(str(folder / "cross_encoder"){trusted})

entities = [("Batmobile", "The car of Batman ."), ("Batcave", "The headquarters of Batman , below his house .")]
mention = "At midnight , the {MENTION_START} car {MENTION_END} left the cave ."

candidates = [f"{{title}} {TITLE_END} {{description}}" for title, description in entities]
vectors = candidate_encoder.encode(candidates)  # once for all mentions
scores = mention_encoder.similarity(mention_encoder.encode([mention]), vectors)[0]
retrieved = scores.topk({top_k}).indices.tolist()
ranked = cross_encoder.rank(mention, [candidates[number] for number in retrieved])
print(entities[retrieved[ranked[0]["corpus_id"]]])
```

A mention is a text in which it is marked: `left {MENTION_START} mention {MENTION_END} right`. A candidate is
`title {TITLE_END} description`. Of longer texts, the models read the tokens around the mention and the first tokens of
the candidate. `trust_remote_code` lets sentence-transformers (6 or later) run `mention_modules.py`, which finds the
window around the mention. The score of a pair is not a probability: compare it with those of other candidates of the
same mention.{_prompts(source)}

{_lengths(source)}
"""


def _prompts(source: Source) -> str:
    vectors = TrainingMetrics.model_validate(source.biencoder.manifest.metrics).vectors
    if vectors is None or not (vectors.mention_prompt or vectors.candidate_prompt):
        return ""
    return " The first two encoders put a prompt of their own before each text, which is in their configuration."


def _lengths(source: Source) -> str:
    configs = {"bi-encoder": source.biencoder.manifest.config, "cross-encoder": source.crossencoder.manifest.config}
    header = ["tokens with the special ones, at most", "mention", "candidate"]
    return _table(
        header,
        [[name, str(known["max_context_length"]), str(known["max_cand_length"])] for name, known in configs.items()],
    )


def _evaluation(results: Sequence[_Result]) -> str:
    if not results:
        return "## Evaluation\n\nThe store has no evaluation of these models.\n"
    names = list(dict.fromkeys(name for result in results for name in result.rates))
    rows = [["mentions", *(count(result.mentions) for result in results)]]
    rows += [[name, *(percent(result.rates.get(name)) for result in results)] for name in names]
    table = _table(["metric, mean over mentions", *(result.split for result in results)], rows)
    return f"""\
## Evaluation

{table}

Normalized accuracy is over the mentions whose entity is among the candidates, unnormalized accuracy over all. The whole
linker combines the scores of the cross-encoder with those of the retriever, which may use words and names, too. The
folders here are the bi-encoder and the cross-encoder.
"""


def _training(source: Source) -> str:
    made = source.crossencoder.manifest
    data = _table(["data", "SHA-256"], [[f"`{name}`", f"`{sha256}`"] for name, sha256 in _data(source).items()])
    versions = {"zeshel-tasks": made.package_version, **made.versions}
    facts = _table(
        ["", "bi-encoder", "cross-encoder"],
        [
            ["pretrained model", *(f"`{_base_model(part)}`" for part in (source.biencoder.manifest, made))],
            *_origins(source.biencoder.manifest, made),
            *_settings(source.biencoder.manifest, made),
            ["trained on", source.biencoder.manifest.device, made.device],
            ["finished at", source.biencoder.manifest.finished_at, made.finished_at],
            ["fingerprint", *(f"`{part}`" for part in source.identity.values())],
        ],
    )
    return f"""\
## Training

{data}

{_sizes(source)}{facts}

Versions: {", ".join(f"{name} {number}" for name, number in versions.items())}.
"""


def _origins(*manifests: Manifest) -> Iterator[list[str]]:
    """What the pretrained models state about their making. Nobody checks it."""
    known = [TrainingMetrics.model_validate(manifest.metrics).pretrained for manifest in manifests]

    def cells(of: Callable[[StatedOrigin], Sequence[str]]) -> list[str]:
        return ["" if origin is None else ", ".join(map(_code, of(origin))) or "not stated" for origin in known]

    if any(known):
        yield ["trained on, as it states", *cells(lambda origin: origin.datasets)]
        yield ["started from, as it states", *cells(lambda origin: origin.base_models)]
        yield ["licence, as it states", *cells(lambda origin: [origin.license] if origin.license else [])]


def _code(text: str) -> str:
    plain = text.replace("`", "'")
    return f"`{plain}`"


def _licence(source: Source, license_id: str) -> str:
    stated = "is not stated" if license_id == UNKNOWN_LICENSE else f"is `{license_id}`"
    derived = [f"`{name}`" for name in (*_base_models(source), *_data(source))]
    terms = f" They derive from {', '.join(derived)}: the terms of those apply, too." if derived else ""
    return f"## Licence\n\nThe licence of these models {stated}.{terms}\n"


def _settings(*manifests: Manifest) -> list[list[str]]:
    """The settings of both trainings that affect the result, in the order of the first."""
    kinds: list[type[StageConfig]] = [TrainBiencoderConfig, TrainCrossencoderConfig]
    known = [
        {name: value for name, value in manifest.config.items() if name not in _ADDRESSES and _affects(kind, name)}
        for manifest, kind in zip(manifests, kinds, strict=True)
    ]
    names = dict.fromkeys(name for config in known for name in config)
    return [[f"`{name}`", *(_shown(config, name) for config in known)] for name in names]


def _affects(kind: type[StageConfig], name: str) -> bool:
    field = kind.model_fields.get(name)
    extra: Any = None if field is None else field.json_schema_extra
    return extra is None or bool(extra["affects_result"])


def _shown(config: Mapping[str, Any], name: str) -> str:
    return one_line(str(config[name])) if name in config else ""


def _sizes(source: Source) -> str:
    converted = source.manifests.get("convert")
    if converted is None:
        return ""
    mentions = converted.metrics["mentions"]
    rows = [[split, count(mentions[split]), count(len(converted.metrics["worlds"][split]))] for split in SPLITS]
    return _table(["split", "mentions", "worlds"], rows) + "\n\n"


def _data(source: Source) -> dict[str, str]:
    """The data sets by name, with their SHA-256. Of files, only the name is shown: the card may become public."""
    downloaded = source.manifests.get("download")
    if downloaded is None:
        return {}
    found = DownloadMetrics.model_validate(downloaded.metrics).sources
    return {_public(one.source): one.sha256 for one in found}


def _public(address: str) -> str:
    is_public = isinstance(_parsed(source_location, address), WebAddress | DriveFile)
    return one_line(without_secrets(address) if is_public else _last_part(address))


def _base_models(source: Source) -> list[str]:
    """The names of the pretrained models that are on the hub."""
    parts = source.biencoder.manifest, source.crossencoder.manifest
    locations = (_parsed(model_location, part.config["bert_model"]) for part in parts)
    return list(dict.fromkeys(one.repository for one in locations if isinstance(one, HubModel)))


def _base_model(manifest: Manifest) -> str:
    address = manifest.config["bert_model"]
    on_hub = isinstance(_parsed(model_location, address), HubModel)
    return one_line(address if on_hub else _last_part(address))


def _parsed(parse: Parser[L], address: str) -> L | None:
    try:
        return parse(address)
    except ValueError:  # secrets are hidden in it
        return None


def _last_part(address: str) -> str:
    return PurePosixPath(without_secrets(address)).name


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
