"""Every setting of every stage: defined here, once, and validated when constructed.

Each stage has one frozen model. The command line, the YAML file, the DAG's trigger form and
``docs/hyperparameters.md`` are all generated from these models. Hyper-parameters keep the names of
BLINK's own flags.

A run's settings are a :class:`Recipe`; ``recipe.py`` builds it from a preset and overrides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, cast, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from zeshel_tasks.text.addresses import MAX_CHARACTERS, checked_address

Split = Literal["train", "valid", "test", "heldout_train_seen", "heldout_train_unseen"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
HELDOUT_SPLITS: tuple[Split, ...] = ("heldout_train_seen", "heldout_train_unseen")
"""Mentions of the worlds of train that no training sees; not every data set has them."""
ALL_SPLITS = SPLITS + HELDOUT_SPLITS
Preset = Literal["blink", "recommended", "smoke"]
TypeOptimization = Literal["all", "additional_layers", "top_layer", "top4_layers", "all_encoder_layers"]
Precision = Literal["auto", "fp32", "bf16"]
Pooling = Literal["cls", "mean"]
Similarity = Literal["dot", "cosine"]
VectorDtype = Literal["float32", "float16"]
PrivateAddresses = Literal["refuse", "allow"]
RECALL_AT = (1, 4, 8, 16, 32, 64)

ZESHEL_ON_GOOGLE_DRIVE = "https://drive.google.com/uc?export=download&id=1ZcKZ1is0VEkY9kNfPxIG19qEIqHE5LIO"

_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
# Of an address, a path or a name, for the trigger form to refuse others; `checked_address` looks more closely.
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f]*$"
Address = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS, pattern=NO_CONTROL_CHARACTERS)]
WorldToSplit = Annotated[str, Field(max_length=MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+=(train|valid|test)$")]


def setting(
    default: Any, description: str, *, affects_result: bool = True, shared: bool = False, **constraints: Any
) -> Any:
    """One setting.

    Args:
        default: value where neither preset nor user says otherwise.
        description: shown by ``--help``, the trigger form and the docs.
        affects_result: ``False`` keeps the setting out of the fingerprint, so changing it reuses what exists.
        shared: the trigger form shows it once, for all stages that have it.
        constraints: pydantic's own (``ge``, ``le``, ``gt``, ...).
    """
    return Field(
        default,
        description=description,
        json_schema_extra={"affects_result": affects_result, "shared": shared},
        **constraints,
    )


class StageConfig(BaseModel):
    """Base of the stages' settings: frozen, no unknown names, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    runs_a_model: ClassVar[bool] = False
    """Whether a GPU is of use to the stage."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic takes true for 1.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("expected no true or false")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _addresses_can_be_asked_for(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [checked_address(item) if isinstance(item, str) else item for item in value]
        return checked_address(value) if isinstance(value, str) else value

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any, info: ValidationInfo) -> Any:
        takes_many = get_origin(cls.model_fields[str(info.field_name)].annotation) is tuple
        return [value] if takes_many and isinstance(value, str) else value

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings that change what the stage computes."""
        return {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if setting_flag(field, "affects_result")
        }

    def as_recorded(self, config: Mapping[str, Any]) -> Self:
        """These settings, but with those of a manifest's ``config`` that change what the stage computes."""
        recorded = {name: config[name] for name in self.fingerprint_fields() if name in config}
        return self.model_validate(self.model_dump() | recorded)


class DownloadConfig(StageConfig):
    """Where the data set comes from."""

    source: str = setting(
        ZESHEL_ON_GOOGLE_DRIVE,
        "The data set: an archive (.tar.bz2, .tar.gz, .tar.xz, .tar) at an http(s) or s3 address or a local path; or a "
        "folder with documents/ and mentions/: a local one, or s3://bucket/prefix/ with a slash at its end.",
        affects_result=False,  # the content's identity decides, wherever it lies
        min_length=1,
        max_length=MAX_CHARACTERS,
        pattern=NO_CONTROL_CHARACTERS,
    )
    more_sources: tuple[Address, ...] = setting(
        (),
        "Further data sets that are merged with it, one a line: archives or folders alike, each with worlds of its "
        "own.",
        affects_result=False,
        max_length=1000,
    )
    worlds_to_splits: tuple[WorldToSplit, ...] = setting(
        (),
        "Which split all mentions of a world go to, one world=split a line (my_wiki=test); the other worlds stay where "
        "their data set has them.",
        max_length=10_000,
    )
    sha256: str | None = setting(
        None,
        "Expected SHA-256 of the archive that source names, in hexadecimal.",
        affects_result=False,
        pattern=r"^[0-9a-fA-F]{64}$",
    )
    max_download_gb: float = setting(8.0, "Refuse an archive larger than this.", affects_result=False, gt=0, le=10_000)
    max_unpacked_gb: float = setting(
        32.0, "Refuse an archive that unpacks to more than this.", affects_result=False, gt=0, le=10_000
    )
    timeout_seconds: float = setting(
        60.0, "Give up on a server that sends nothing for this long.", affects_result=False, gt=0, le=3600
    )
    max_download_minutes: float = setting(
        360.0,
        "Give up on a download that takes longer than this in all, tries and pauses included.",
        affects_result=False,
        gt=0,
        le=10_080,
    )
    private_addresses: PrivateAddresses = setting(
        "refuse",
        "Whether redirects and pages may lead from a public server into private networks or to this machine, and "
        "whether link-local addresses (cloud metadata) may be asked. The server that source itself names may be on a "
        "private network either way.",
        affects_result=False,
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """All data sets, in the order in which they are merged."""
        return (self.source, *self.more_sources)

    @property
    def assigned(self) -> dict[str, Split]:
        """World -> split."""
        pairs = (text.rpartition("=") for text in self.worlds_to_splits)
        return {world: cast("Split", split) for world, _, split in pairs}

    @model_validator(mode="after")
    def _one_split_a_world(self) -> Self:
        if len(self.assigned) < len(self.worlds_to_splits):
            worlds = [text.rpartition("=")[0] for text in self.worlds_to_splits]
            twice = next(world for world in worlds if worlds.count(world) > 1)
            raise ValueError(f"worlds_to_splits: expected each world once, got {twice} twice")
        return self


class ConvertConfig(StageConfig):
    """From ZESHEL's files to BLINK's."""

    context_tokens: int = setting(
        128, "White-space tokens of context kept on each side of a mention.", ge=1, le=100_000
    )
    max_mentions_per_world: int | None = setting(
        None, "Keep at most this many mentions of a world, a seeded random subset; none keeps all.", ge=1, le=10**9
    )
    subset_seed: int = setting(52313, "Seed of that subset.", ge=0, le=2**32 - 1)
    on_bad_mention: Literal["fail", "skip"] = setting(
        "fail", "A broken mention stops the stage, or is counted, logged and left out."
    )
    max_bad_share: float = setting(
        0.01, "With skip: stop after all if more than this share of a split's mentions is broken.", ge=0, le=1
    )


class ComputeConfig(StageConfig):
    """What every stage that runs a model by settings of its own has."""

    runs_a_model = True

    precision: Precision = setting(
        "fp32",
        "fp32, bf16 autocast (weights stay fp32), or auto: bf16 where the device computes it in hardware, else fp32.",
        shared=True,
    )
    device: str = setting(
        "auto",
        "auto, cpu, cuda or cuda:N.",
        shared=True,
        affects_result=False,
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
    )
    print_interval: float = setting(
        15.0, "Seconds between progress lines.", shared=True, affects_result=False, gt=0, le=3600
    )
    stall_minutes: float = setting(
        30.0,
        "Give up, for a retry to go on, when nothing was done for this long: a GPU, network or process hangs.",
        shared=True,
        affects_result=False,
        gt=0,
        le=1440,
    )


class EncoderConfig(ComputeConfig):
    """What both trainings have: the encoder's shape, the optimizer and the pace."""

    bert_model: str = setting(
        "bert-large-uncased",
        "The pretrained BERT: hub name, local directory or s3 address.",
        shared=True,
        affects_result=False,  # the content's identity decides, wherever it lies
        min_length=1,
        max_length=MAX_CHARACTERS,
        pattern=NO_CONTROL_CHARACTERS,
    )
    learning_rate: float = setting(1e-5, "Peak learning rate.", gt=0, le=1)
    num_train_epochs: int = setting(5, "Passes over the training mentions; 0 keeps the start weights.", ge=0, le=1000)
    train_batch_size: int = setting(128, "Mentions in a training step.", ge=1, le=100_000)
    eval_batch_size: int = setting(64, "Mentions in a validation batch.", ge=1, le=100_000)
    gradient_accumulation_steps: int = setting(
        1, "A training step is computed in this many parts, to save memory.", ge=1, le=10_000
    )
    max_context_length: int = setting(
        128, "Tokens of a mention in its context, markers included.", shared=True, ge=8, le=512
    )
    max_cand_length: int = setting(128, "Tokens of a candidate's title and description.", shared=True, ge=8, le=512)
    type_optimization: TypeOptimization = setting("all_encoder_layers", "Which parameters are trained.")
    warmup_proportion: float = setting(0.1, "Share of the steps in which the learning rate rises.", ge=0, le=1)
    max_grad_norm: float = setting(1.0, "Gradients are clipped to this norm.", gt=0, le=10**6)
    attention_dropout: float | None = setting(
        None,
        "Dropout on attention probabilities; none takes the model's own. 0 lets attention be computed in one piece.",
        ge=0,
        lt=1,
    )
    weight_decay: float = setting(0.01, "AdamW's weight decay; never on biases and LayerNorm.", ge=0, le=1)
    seed: int = setting(52313, "Seed of initial weights, dropout and shuffling.", shared=True, ge=0, le=2**32 - 1)
    shuffle: bool = setting(True, "Shuffle the training mentions anew each epoch.")
    pull_from_layer: int = setting(-1, "Which layer's output is used; -1 is the last.", ge=-100, le=100)
    out_dim: int = setting(1, "Output dimension of the linear layer that add_linear puts on top.", ge=1, le=65_536)
    add_linear: bool = setting(False, "Put dropout and a linear layer on the pooled output.")
    lowercase: bool = setting(True, "Lower-case text before tokenizing.", shared=True)
    data_parallel: bool = setting(True, "Use all GPUs of the machine, one process each.", affects_result=False)
    patience: int | None = setting(
        None, "Stop after this many epochs in a row without a better validation; none trains all epochs.", ge=1, le=1000
    )
    eval_interval: int = setting(
        0, "Also validate every so many steps (for the curve; epochs decide); 0 only at the end of an epoch.",
        affects_result=False, ge=0, le=10**9,
    )  # fmt: skip
    checkpoint_minutes: float = setting(
        10.0, "Minutes between checkpoints within an epoch.", affects_result=False, gt=0, le=1440
    )

    @model_validator(mode="after")
    def _parts_are_not_larger_than_the_batch(self) -> Self:
        if self.gradient_accumulation_steps > self.train_batch_size:
            raise ValueError(
                f"gradient_accumulation_steps: expected at most train_batch_size ({self.train_batch_size}), "
                f"got {self.gradient_accumulation_steps}"
            )
        return self


class TrainBiencoderConfig(EncoderConfig):
    """Two towers, in-batch negatives."""

    biencoder_weights: str | None = setting(
        None,
        "Start from these weights: BLINK's pytorch_model.bin of a bi-encoder; a local path or s3 address.",
        affects_result=False,
        min_length=1,
        max_length=MAX_CHARACTERS,
        pattern=NO_CONTROL_CHARACTERS,
    )
    mask_duplicate_golds: bool = setting(
        True, "In a batch, another mention's gold entity is not a negative of a mention with the same gold."
    )
    one_world_batches: bool = setting(
        False, "Batches are drawn from one world each, so that in-batch negatives are of the mention's own world."
    )
    hard_negatives: int = setting(
        0, "Entities of its world that score high for a mention, added to its negatives; 0 for in-batch ones alone.",
        ge=0, le=1000,
    )  # fmt: skip
    hard_negative_rounds: int = setting(
        1,
        "How often they are found anew, at equal distances; with one epoch a single round is before it.",
        ge=1,
        le=100,
    )
    gradient_cache: bool = setting(
        False,
        "With gradient_accumulation_steps: all parts of a batch share its negatives; parts are encoded twice for it.",
    )
    pooling: Pooling = setting("cls", "What a vector is made of: the output for [CLS], or the mean over all tokens.")
    similarity: Similarity = setting("dot", "The score: dot product, or cosine over a learned temperature.")
    temperature: float = setting(0.05, "With cosine: where the temperature starts.", ge=0.01, le=1)

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.add_linear and self.pooling != "cls":
            raise ValueError("pooling: expected cls with add_linear, whose layer reads the pooler's [CLS], got mean")
        return self


class EvalBiencoderConfig(ComputeConfig):
    """Retrieve candidates and measure recall."""

    top_k: int = setting(64, "Candidates retrieved for each mention.", ge=1, le=10_000)
    encode_batch_size: int = setting(256, "Candidates encoded at once.", affects_result=False, ge=1, le=100_000)
    eval_batch_size: int = setting(64, "Mentions encoded at once.", affects_result=False, ge=1, le=100_000)
    vector_dtype: VectorDtype = setting(
        "float32",
        "How candidates' vectors are stored; float16 halves their files, and near ties may be ordered otherwise.",
    )
    candidate_form: Literal["title_and_text", "blink_eval"] = setting(
        "title_and_text",
        "How a candidate is written: as in training, or text[:256] without a title as BLINK's evaluation does.",
    )


class TrainCrossencoderConfig(EncoderConfig):
    """One tower over mention and candidate, trained to pick the gold among the retrieved."""

    learning_rate: float = setting(2e-5, "Peak learning rate; see docs for why not the recipe's 1e-03.", gt=0, le=1)
    train_batch_size: int = setting(2, "Mentions (each with all its candidates) in a training step.", ge=1, le=10_000)
    eval_batch_size: int = setting(2, "Mentions (each with all its candidates) scored at once.", ge=1, le=10_000)
    max_seq_length: int = setting(256, "Tokens of mention and candidate together.", ge=16, le=512)
    train_candidates: int | None = setting(
        None,
        "Candidates of a mention in a training step: its gold and a random choice of the others, anew in each epoch; "
        "none takes all.",
        ge=2,
        le=10_000,
    )
    from_biencoder: bool = setting(
        False,
        "Start from the trained bi-encoder's tower of mentions instead of bert_model, which knows no mentions yet.",
    )
    add_linear: bool = setting(True, "The score is a linear layer on the pooled output; must be true.")
    crossencoder_weights: str | None = setting(
        None,
        "Start from these weights: BLINK's pytorch_model.bin of a cross-encoder; a local path or s3 address.",
        affects_result=False,
        min_length=1,
        max_length=MAX_CHARACTERS,
        pattern=NO_CONTROL_CHARACTERS,
    )

    @model_validator(mode="after")
    def _one_score(self) -> Self:
        if not self.add_linear or self.out_dim != 1:
            raise ValueError("add_linear, out_dim: a cross-encoder scores by add_linear=true with out_dim=1")
        if self.max_seq_length <= self.max_context_length:
            raise ValueError(
                f"max_seq_length: expected more than max_context_length ({self.max_context_length}), "
                f"got {self.max_seq_length}"
            )
        return self


class EvalCrossencoderConfig(ComputeConfig):
    """Re-rank the candidates and measure accuracy."""

    eval_batch_size: int = setting(
        2, "Mentions (each with all its candidates) scored at once.", affects_result=False, ge=1, le=10_000
    )


class CompareConfig(StageConfig):
    """Compare with the champion, on the same test mentions."""

    runs_a_model = True

    confidence: float = setting(0.95, "Of the intervals, by paired bootstrap over the mentions.", gt=0, lt=1)
    bootstrap_samples: int = setting(10_000, "How often the mentions are drawn anew.", ge=100, le=1_000_000)
    bootstrap_seed: int = setting(52313, "Seed of the draws.", ge=0, le=2**32 - 1)


class ReportConfig(StageConfig):
    """What the report shows."""

    num_mistakes: int = setting(50, "How many of the most confident mistakes are shown.", ge=0, le=1000)
    num_past_runs: int = setting(
        20, "How many of the store's latest runs are shown beside this one.", affects_result=False, ge=0, le=1000
    )


class PromoteConfig(StageConfig):
    """Make the model the champion if it is better."""

    margin: float = setting(
        0.0,
        "By how much its unnormalized accuracy on test (0 to 1) must be above the champion's; the interval of the "
        "difference must be above 0 as well.",
        ge=0,
        le=1,
    )
    max_world_drop: float = setting(
        0.02, "By how much the unnormalized accuracy of a test world may fall below the champion's.", ge=0, le=1
    )


class Recipe(BaseModel):
    """The settings of all stages of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = "recommended"
    download: DownloadConfig = DownloadConfig()
    convert: ConvertConfig = ConvertConfig()
    train_biencoder: TrainBiencoderConfig = TrainBiencoderConfig()
    eval_biencoder: EvalBiencoderConfig = EvalBiencoderConfig()
    train_crossencoder: TrainCrossencoderConfig = TrainCrossencoderConfig()
    eval_crossencoder: EvalCrossencoderConfig = EvalCrossencoderConfig()
    compare: CompareConfig = CompareConfig()
    report: ReportConfig = ReportConfig()
    promote: PromoteConfig = PromoteConfig()


STAGE_CONFIGS: dict[str, type[StageConfig]] = {
    name: field.annotation  # type: ignore[misc]  # every field but `preset` is a StageConfig
    for name, field in Recipe.model_fields.items()
    if name != "preset"
}


def bounds_of(schema: Mapping[str, Any]) -> list[str]:
    """Bounds in a number's JSON schema, as people read them: ``["≥ 1", "≤ 10000"]``; none that nobody would meet."""
    return [f"{sign} {schema[key]:g}" for key, sign in _BOUNDS if key in schema and schema[key] < 2**31]


def setting_flag(field: Any, flag: str) -> bool:
    """``affects_result`` or ``shared`` of a pydantic field made by :func:`setting`."""
    return bool(field.json_schema_extra[flag])
