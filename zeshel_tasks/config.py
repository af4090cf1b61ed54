"""Every setting of every stage, defined once and validated at construction.

Each stage has one frozen model. The command line, the YAML file, the DAG's trigger form and
``docs/hyperparameters.md`` are all generated from these models. Hyper-parameters keep the names of
BLINK's own flags.

The settings of a run form a :class:`Recipe`, which ``recipe.py`` builds from a preset and overrides.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, cast
from unicodedata import normalize

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from zeshel_tasks.location import MAX_CHARACTERS, model_location, source_location, store_location
from zeshel_tasks.stage_config import ADDRESS, PRINTABLE, StageConfig, setting, takes

Split = Literal["train", "valid", "test", "heldout_train_seen", "heldout_train_unseen"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
HELDOUT_SPLITS: tuple[Split, ...] = ("heldout_train_seen", "heldout_train_unseen")
"""Mentions of the training worlds that are held out of training. Not every data set has them."""
ALL_SPLITS = SPLITS + HELDOUT_SPLITS
Preset = Literal["blink", "recommended", "best", "smoke"]
TypeOptimization = Literal["all", "additional_layers", "top_layer", "top4_layers", "all_encoder_layers"]
Precision = Literal["auto", "fp32", "bf16"]
Pooling = Literal["cls", "mean", "span", "span_and_mean"]
PoolingSetting = Literal["auto", "cls", "mean", "span", "span_and_mean"]
AUTO = "auto"
"""Value of a setting that follows what ``bert_model`` declares."""
Similarity = Literal["dot", "cosine"]
HardNegativeSource = Literal["model", "bm25", "both"]
SimilaritySetting = Literal["auto", "dot", "cosine"]
VectorDtype = Literal["float32", "float16"]
CandidateForm = Literal["title_and_text", "blink_eval"]
Offsets = Literal["code_points", "utf16"]
Mentions = Literal["given", "titles"]
LinkMode = Literal["rerank", "cascade", "retrieve"]
LINK_MODES: tuple[LinkMode, ...] = ("rerank", "cascade", "retrieve")
FinalScore = Literal["fitted", "crossencoder"]
PrivateAddresses = Literal["refuse", "allow"]
RECALL_AT = (1, 4, 8, 16, 32, 64)

ZESHEL_ON_GOOGLE_DRIVE = "https://drive.google.com/uc?export=download&id=1ZcKZ1is0VEkY9kNfPxIG19qEIqHE5LIO"

SourceAddress = Annotated[str, ADDRESS, takes(source_location)]
ModelAddress = Annotated[str, ADDRESS, takes(model_location)]
WeightsAddress = Annotated[str, ADDRESS, takes(store_location)]
Prompt = Annotated[str, Field(max_length=255, pattern=rf"^{PRINTABLE}+$")]
WorldToSplit = Annotated[str, Field(max_length=MAX_CHARACTERS, pattern=rf"^{PRINTABLE}+=(train|valid|test)$")]


class DownloadConfig(StageConfig):
    """Download and verify the data set."""

    source: SourceAddress = setting(
        ZESHEL_ON_GOOGLE_DRIVE,
        "The data set: an archive (.tar.bz2, .tar.gz, .tar.xz or .tar) at an http(s), s3 or file address or a local "
        "path; or a folder with documents/ and mentions/, either local or s3://bucket/prefix/ with a trailing slash.",
        affects_result=False,  # the content's identity goes into the fingerprint instead of its address
    )
    more_sources: tuple[SourceAddress, ...] = setting(
        (),
        "More data sets to merge with source, one per line. Each is an archive or a folder, and no two data sets may "
        "contain the same world.",
        affects_result=False,
        max_length=1000,
    )
    worlds_to_splits: tuple[WorldToSplit, ...] = setting(
        (),
        "Move all mentions of a world to a split, one world=split per line (my_wiki=test). Other worlds keep the split "
        "that their data set assigns.",
        max_length=10_000,
    )
    sha256: str | None = setting(
        None,
        "Expected SHA-256 of the source archive, in hexadecimal.",
        affects_result=False,
        pattern=r"^[0-9a-fA-F]{64}$",
    )
    max_download_gb: float = setting(
        8.0, "Maximum size of an archive, in GB.", affects_result=False, ge=1e-6, le=10_000
    )
    max_unpacked_gb: float = setting(
        32.0, "Maximum size of an unpacked archive, in GB.", affects_result=False, ge=1e-6, le=10_000
    )
    timeout_seconds: float = setting(
        60.0, "Give up when a server sends nothing for this many seconds.", affects_result=False, ge=0.01, le=3600
    )
    max_download_minutes: float = setting(
        360.0,
        "Time limit of a whole download in minutes, including retries and the waits between them.",
        affects_result=False,
        ge=0.001,
        le=10_080,
    )
    private_addresses: PrivateAddresses = setting(
        "refuse",
        "Allow or refuse redirects and links from a public server into private networks or to this machine, and "
        "requests to link-local addresses (cloud metadata). The server named in source may be on a private network in "
        "both cases.",
        affects_result=False,
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """All data sets, in the order of merging."""
        return (self.source, *self.more_sources)

    @property
    def assigned(self) -> dict[str, Split]:
        """The split of each world in ``worlds_to_splits``, whose names are in the normal form of files (NFC)."""
        pairs = (text.rpartition("=") for text in self.worlds_to_splits)
        return {normalize("NFC", world): cast("Split", split) for world, _, split in pairs}

    @model_validator(mode="after")
    def _each_world_has_one_split(self) -> Self:
        if len(self.assigned) < len(self.worlds_to_splits):
            worlds = [normalize("NFC", text.rpartition("=")[0]) for text in self.worlds_to_splits]
            twice = next(world for world in worlds if worlds.count(world) > 1)
            raise ValueError(f"worlds_to_splits: expected each world once, got {twice} twice")
        return self


class ConvertConfig(StageConfig):
    """Convert ZESHEL's files to BLINK's format."""

    context_tokens: int = setting(
        128, "Whitespace-separated tokens of context to keep on each side of a mention.", ge=1, le=100_000
    )
    max_mentions_per_world: int | None = setting(
        None, "Maximum number of mentions per world, chosen at random with subset_seed; none keeps all.", ge=1, le=10**9
    )
    subset_seed: int = setting(
        52313, "Seed of the random subset that max_mentions_per_world keeps.", ge=0, le=2**32 - 1
    )
    on_bad_mention: Literal["fail", "skip"] = setting(
        "fail", "On an invalid mention, fail the stage, or skip the mention after logging and counting it."
    )
    max_bad_share: float = setting(
        0.01,
        "With on_bad_mention=skip, fail if more than this fraction of a split's mentions is invalid. Held-out mentions "
        "that are also in train, or of no training world, are left out up to this fraction in any case.",
        ge=0,
        le=1,
    )


class ComputeConfig(StageConfig):
    """Settings of every stage that runs a model with settings of its own."""

    runs_a_model = True

    precision: Precision = setting(
        "fp32",
        "fp32, bf16 (training keeps fp32 weights), or auto: bf16 if the hardware supports it, else fp32.",
        shared=True,
    )
    device: str = setting(
        "auto",
        "Device to compute on: auto, cpu, cuda or cuda:N.",
        shared=True,
        affects_result=False,
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
    )
    print_interval: float = setting(
        15.0, "Seconds between progress lines.", shared=True, affects_result=False, ge=0.001, le=3600
    )
    stall_minutes: float = setting(
        30.0,
        "Exit with code 75, so that a retry resumes, after this many minutes without progress: a GPU, network or "
        "process hangs.",
        shared=True,
        affects_result=False,
        ge=0.001,
        le=1440,
    )


class EncoderConfig(ComputeConfig):
    """Settings of both training stages: encoder, optimizer and schedule."""

    bert_model: ModelAddress = setting(
        "bert-large-uncased",
        "Pretrained model to start from, of the type bert, camembert, data2vec-text, ernie, layoutlm, roberta or "
        "xlm-roberta: a Hugging Face hub name (name@revision pins a commit, tag or branch), a local directory, or an "
        "s3 or file address.",
        shared=True,
        affects_result=False,  # as for `source`
    )
    learning_rate: float | None = setting(
        1e-5, "Peak learning rate; none suits it to the size of the model (docs/recipe.md).", ge=1e-9, le=1
    )
    num_train_epochs: int = setting(
        5, "Epochs, each one pass over the training mentions; 0 keeps the initial weights.", ge=0, le=1000
    )
    train_batch_size: int = setting(128, "Mentions per training step.", ge=1, le=100_000)
    eval_batch_size: int = setting(
        64, "Mentions or entities per validation batch of a process.", affects_result=False, ge=1, le=100_000
    )
    gradient_accumulation_steps: int = setting(
        1, "Compute each training step in this many parts to save memory.", ge=1, le=10_000
    )
    max_context_length: int = setting(
        128, "Maximum tokens of a mention in its context, including the mention markers.", shared=True, ge=8, le=512
    )
    max_cand_length: int = setting(
        128, "Maximum tokens of a candidate's title and description.", shared=True, ge=8, le=512
    )
    type_optimization: TypeOptimization = setting("all_encoder_layers", "Parameters to train.")
    warmup_proportion: float = setting(
        0.1, "Fraction of the training steps during which the learning rate warms up.", ge=0, le=1
    )
    max_grad_norm: float = setting(1.0, "Norm to which gradients are clipped.", ge=1e-6, le=10**6)
    attention_dropout: float | None = setting(
        None,
        "Dropout on attention probabilities; none uses the model's own value. 0 allows a fused attention kernel.",
        ge=0,
        lt=1,
    )
    weight_decay: float = setting(
        0.01, "Weight decay of AdamW. Biases and LayerNorm weights are never decayed.", ge=0, le=1
    )
    seed: int = setting(52313, "Seed of the initial weights, dropout and shuffling.", shared=True, ge=0, le=2**32 - 1)
    shuffle: bool = setting(True, "Reshuffle the training mentions in every epoch.")
    pull_from_layer: int = setting(-1, "Layer whose output is used; -1 is the last.", ge=-100, le=100)
    out_dim: int = setting(1, "Output dimension of the linear layer that add_linear adds.", ge=1, le=65_536)
    add_linear: bool = setting(False, "Add dropout and a linear layer on top of the pooled output.")
    lowercase: bool = setting(True, "Lowercase text before tokenizing; false for a cased model.", shared=True)
    data_parallel: bool = setting(True, "Use all GPUs of the machine, with one process per GPU.", affects_result=False)
    patience: int | None = setting(
        None,
        "Stop after this many consecutive epochs without a better validation result; none trains all epochs.",
        ge=1,
        le=1000,
    )
    eval_interval: int = setting(
        0,
        "Also validate every this many steps, for the learning curve only: the validations at the end of the epochs "
        "decide which epoch is best. 0 validates at the end of epochs only.",
        affects_result=False, ge=0, le=10**9,
    )  # fmt: skip
    checkpoint_minutes: float = setting(
        10.0, "Minutes between checkpoints within an epoch.", affects_result=False, ge=1e-6, le=1440
    )

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate. If it was none, ``training/learning_rates.py`` has replaced it before."""
        assert self.learning_rate is not None
        return self.learning_rate

    @model_validator(mode="after")
    def _batch_has_enough_mentions_for_its_parts(self) -> Self:
        if self.gradient_accumulation_steps > self.train_batch_size:
            raise ValueError(
                f"gradient_accumulation_steps: expected at most train_batch_size ({self.train_batch_size}), "
                f"got {self.gradient_accumulation_steps}"
            )
        return self


class TrainBiencoderConfig(EncoderConfig):
    """Train the bi-encoder that retrieves candidate entities."""

    biencoder_weights: WeightsAddress | None = setting(
        None,
        "Initial weights: the pytorch_model.bin of a BLINK bi-encoder, at a local path, an s3 or a file address.",
        affects_result=False,
    )
    mask_duplicate_golds: bool = setting(
        True,
        "Score an entity once in a batch in which it is the gold of several mentions, so that it is no negative of "
        "theirs and a single negative of the others.",
    )
    one_world_batches: bool = setting(
        False, "Draw each batch from a single world, so that in-batch negatives come from the mention's own world."
    )
    hard_negatives: int = setting(
        0, "Hard negatives per mention, from the high-scoring entities of its world; 0 uses in-batch negatives only.",
        ge=0, le=1000,
    )  # fmt: skip
    hard_negative_rounds: int = setting(
        1,
        "How many times hard negatives are mined, at equal intervals over the epochs. With one epoch, a single round "
        "runs before it.",
        ge=1,
        le=100,
    )
    hard_negatives_from: HardNegativeSource = setting(
        "model",
        "Rank hard negatives by the bi-encoder in training, by BM25 with the words of the mention, or by both, half of "
        "the entities each.",
    )
    gradient_cache: bool = setting(
        False,
        "With gradient_accumulation_steps, share in-batch negatives among all parts of a batch, at the cost of "
        "encoding each part twice.",
    )
    pooling: PoolingSetting = setting(
        "cls",
        "Source of the vector: the output for [CLS], or the mean over all tokens; for a mention also the mean over its "
        "own tokens between the markers (span), or the sum of both means. Candidates then have the mean over all. "
        "auto is what bert_model declares in the files of sentence-transformers, or else the mean over all tokens.",
    )
    similarity: SimilaritySetting = setting(
        "dot",
        "Score: dot product, or cosine divided by a learned temperature. auto is the cosine, unless bert_model "
        "declares vectors that are not normalized.",
    )
    mention_prompt: Prompt | None = setting(
        None,
        "Text before each mention and its context, for which bert_model was trained: 'query: ' in the e5 family. auto "
        "is what bert_model declares in the files of sentence-transformers; none is no text.",
    )
    candidate_prompt: Prompt | None = setting(
        None, "Text before each candidate, such as 'passage: ' in the e5 family; auto and none as for mention_prompt."
    )
    temperature: float = setting(0.05, "Initial temperature of the cosine similarity.", ge=0.01, le=1)
    temperature_learning_rate: float = setting(
        1e-2,
        "Peak learning rate of the temperature's logarithm, with the same schedule. A step changes the temperature by "
        "about this fraction, so 1e-5 leaves it as it is.",
        ge=1e-9,
        le=1,
    )

    valid_top_k: int = setting(
        64,
        "The best epoch has the highest recall of valid mentions at this number of candidates, then at 1.",
        ge=1,
        le=10_000,
    )
    valid_entities: int | None = setting(
        10_000,
        "Entities of the valid worlds that a validation searches besides the golds: a random sample, in which each "
        "stands for several; none searches all.",
        ge=1,
        le=10**9,
    )

    @property
    def mines_before_training(self) -> bool:
        """True if the first of the rounds, which are spread evenly over the epochs, is before the first epoch."""
        return self.hard_negatives > 0 and self.hard_negative_rounds >= self.num_train_epochs

    @model_validator(mode="after")
    def _each_mention_has_negatives(self) -> Self:
        """Without any, the loss is 0 in every step."""
        if self.num_train_epochs == 0 or self.mines_before_training:
            return self
        if self.train_batch_size < 2:
            raise ValueError(
                "train_batch_size: expected 2 or more, because the negatives of a mention are the golds of the others, "
                f"got {self.train_batch_size}"
            )
        if self.gradient_accumulation_steps > self.train_batch_size // 2 and not self.gradient_cache:
            raise ValueError(
                f"gradient_accumulation_steps: expected at most half of train_batch_size ({self.train_batch_size}), "
                "because without gradient_cache the negatives of a mention are the golds of the others in its part, "
                f"got {self.gradient_accumulation_steps}"
            )
        return self

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if self.type_optimization == "additional_layers" and not self.add_linear:
            raise ValueError(
                "type_optimization: expected layers that exist: additional_layers is the layer of add_linear, "
                "got it with add_linear false"
            )
        if self.add_linear and self.similarity != "dot" and self.out_dim < 2:
            raise ValueError(
                f"out_dim: expected 2 or more with similarity {self.similarity}, because one number has no direction "
                f"to learn, got {self.out_dim}"
            )
        return self

    @model_validator(mode="after")
    def _add_linear_needs_cls_pooling(self) -> Self:
        if self.add_linear and self.pooling != "cls":
            raise ValueError(
                f"pooling: expected cls with add_linear, whose layer reads the pooler's [CLS], got {self.pooling}"
            )
        return self


class RetrievalConfig(ComputeConfig):
    """Settings of both stages that retrieve candidates."""

    encode_batch_size: int = setting(
        256, "Candidates per encoding batch.", shared=True, affects_result=False, ge=1, le=100_000
    )
    eval_batch_size: int = setting(64, "Mentions per encoding batch.", affects_result=False, ge=1, le=100_000)
    vector_dtype: VectorDtype = setting(
        "float32",
        "Storage type of the candidates' vectors. float16 halves the files and may change the order of near ties.",
        shared=True,
    )
    candidate_form: CandidateForm = setting(
        "title_and_text",
        "Text of a candidate: title and text as in training, or text[:256] without a title as in BLINK's evaluation.",
        shared=True,
    )


class FitRetrievalConfig(RetrievalConfig):
    """Fit the weights of the hybrid retriever on the valid mentions."""

    hybrid: bool = setting(
        False,
        "Retrieve also by words (BM25 over title, aliases and text) and by name, and rank all candidates by a score "
        "whose weights are fitted on valid; false retrieves with the bi-encoder alone.",
    )
    context_words: int = setting(
        32, "Words on each side of a mention that BM25 searches for as its context.", ge=1, le=1000
    )


class EvalBiencoderConfig(RetrievalConfig):
    """Retrieve candidates and measure recall."""

    top_k: int = setting(
        64, "Candidates to retrieve per mention. A single one leaves a cross-encoder no choice.", ge=2, le=10_000
    )


class TrainCrossencoderConfig(EncoderConfig):
    """Train the cross-encoder that re-ranks the retrieved candidates."""

    learning_rate: float | None = setting(
        2e-5,
        "Peak learning rate; none suits it to the size of the model. docs/recipe.md explains why it is not BLINK's "
        "1e-03.",
        ge=1e-9,
        le=1,
    )
    train_batch_size: int = setting(2, "Mentions per training step, each with all its candidates.", ge=1, le=10_000)
    eval_batch_size: int = setting(
        2, "Mentions per validation batch, each with all its candidates.", affects_result=False, ge=1, le=10_000
    )
    max_seq_length: int = setting(256, "Maximum tokens of mention and candidate together.", ge=16, le=512)
    train_candidates: int | None = setting(
        None,
        "Candidates per mention in a training step: the gold and a random sample of the others, redrawn each epoch; "
        "none uses all.",
        ge=2,
        le=10_000,
    )
    max_train_mentions: int | None = setting(
        None,
        "Train mentions, drawn at random from those whose gold was retrieved. A larger number includes those of a "
        "smaller one; none uses all.",
        ge=1,
        le=10_000_000,
    )
    from_biencoder: bool = setting(
        False,
        "Start from the mention tower of the trained bi-encoder instead of bert_model.",
    )
    add_linear: bool = setting(True, "Compute the score with a linear layer on the pooled output; must be true.")
    crossencoder_weights: WeightsAddress | None = setting(
        None,
        "Initial weights: the pytorch_model.bin of a BLINK cross-encoder, at a local path, an s3 or a file address.",
        affects_result=False,
    )

    @model_validator(mode="after")
    def _check_score_and_lengths(self) -> Self:
        if not self.add_linear or self.out_dim != 1:
            raise ValueError(
                "add_linear, out_dim: expected true and 1, which a cross-encoder's score needs, "
                f"got {str(self.add_linear).lower()} and {self.out_dim}"
            )
        if self.max_seq_length <= self.max_context_length:
            raise ValueError(
                f"max_seq_length: expected more than max_context_length ({self.max_context_length}), "
                f"got {self.max_seq_length}"
            )
        return self


class EvalCrossencoderConfig(ComputeConfig):
    """Score the candidates with the cross-encoder and measure its accuracy."""

    eval_batch_size: int = setting(
        2, "Mentions per scoring batch, each with all its candidates.", affects_result=False, ge=1, le=10_000
    )


class FuseConfig(StageConfig):
    """Combine cross-encoder and retrieval scores into the final score, and link the mentions by it."""

    final_score: FinalScore = setting(
        "fitted",
        "Score that decides: fitted combines the cross-encoder's and the retrieval score with weights fitted on valid, "
        "or takes the better one alone; crossencoder ignores the retrieval score.",
    )


class CalibrateConfig(StageConfig):
    """Fit the probability that a link is right, and that a mention has no entity."""

    linked_precision: float = setting(
        0.95, "Precision of the linked mentions for which the stage fits and measures a threshold.", ge=0.01, lt=1
    )
    cascade_loss: float = setting(
        0.003,
        "Unnormalized accuracy on valid that may be lost where clear mentions are not re-ranked (mode cascade of "
        "zeshel link).",
        ge=0,
        le=1,
    )


class CompareConfig(StageConfig):
    """Compare the model with the champion on the same test mentions."""

    runs_a_model = True

    confidence: float = setting(0.95, "Confidence level of the bootstrap intervals.", ge=0.01, lt=1)
    bootstrap_samples: int = setting(10_000, "Resamples of the mentions in the paired bootstrap.", ge=100, le=1_000_000)
    bootstrap_seed: int = setting(52313, "Seed of the bootstrap.", ge=0, le=2**32 - 1)


class ReportConfig(StageConfig):
    """Write the report of the run."""

    num_mistakes: int = setting(50, "Most confident mistakes to show.", ge=0, le=1000)
    num_past_runs: int = setting(
        20, "Previous runs in the store to show beside this one.", affects_result=False, ge=0, le=1000
    )


class PromoteConfig(StageConfig):
    """Promote the model to champion if it is better."""

    margin: float = setting(
        0.0,
        "Minimum gain over the champion in unnormalized accuracy on test (0 to 1). The confidence interval of the "
        "difference must be above 0 as well.",
        ge=0,
        le=1,
    )
    max_world_drop: float = setting(
        0.02, "Maximum drop below the champion in the unnormalized accuracy of any test world.", ge=0, le=1
    )


_THRESHOLD = r"^(precision=)?(0|1|0?\.[0-9]{1,9}|1\.0{1,9})$"


def _checked_threshold(value: object) -> object:
    """Explains what the pattern, which the trigger form needs, does not."""
    if isinstance(value, str) and not re.match(_THRESHOLD, value):
        raise ValueError("expected a number from 0 to 1, such as 0.8, or precision= and such a number")
    return value


class LinkConfig(ComputeConfig):
    """Link the mentions of texts against a knowledge base. Not a stage of the recipe."""

    precision: Precision = setting(
        "fp32", "fp32, bf16, or auto: bf16 if the hardware supports it, else fp32; by default as in the evaluation."
    )
    candidates: int = setting(
        64, "Candidates to retrieve per mention; by default as many as in the evaluation.", ge=2, le=10_000
    )
    mode: LinkMode = setting(
        "rerank",
        "rerank scores the candidates of every mention with the cross-encoder; cascade only those of mentions that the "
        "retriever does not make clear, which is faster and loses little; retrieve those of none.",
    )
    top_k: int = setting(5, "Candidates to show per mention, the best ones.", ge=1, le=10_000)
    threshold: Annotated[str | None, BeforeValidator(_checked_threshold)] = setting(
        None,
        "Link a mention only if this is the probability at least that its best candidate is right; precision=0.95 is "
        "the probability at which the linked mentions of valid have this precision. None links a mention unless its "
        "entity is more likely missing than not.",
        pattern=_THRESHOLD,
    )
    nil_share: float | None = setting(
        0.2,
        "Share of the mentions whose entity the knowledge base lacks. The default is that of AIDA-CoNLL. None gives "
        "the probability of being right as if there were no such mentions, and that of a missing entity as if they "
        "were half.",
        ge=0,
        lt=1,
    )
    mentions: Mentions = setting(
        "given",
        "Mentions of a text without a list of them: given in [[double brackets]]; titles finds the titles and aliases "
        "of the knowledge base's entities.",
    )
    ignore_case: bool = setting(False, "Find titles and aliases in any case.")
    offsets: Offsets = setting(
        "code_points", "Unit of start and end: code_points, as in Python, or utf16, as in JavaScript and Java."
    )
    tokenized: bool = setting(
        False,
        "The texts consist of tokens with single spaces between them, as ZESHEL's documents do, and stay as they are; "
        "false separates words and punctuation.",
    )
    eval_batch_size: int = setting(64, "Mentions per encoding batch.", affects_result=False, ge=1, le=100_000)
    score_batch_size: int = setting(
        2, "Mentions per scoring batch, each with all its candidates.", affects_result=False, ge=1, le=10_000
    )

    @model_validator(mode="after")
    def _check_case(self) -> LinkConfig:
        if self.ignore_case and self.mentions != "titles":
            raise ValueError(f"ignore_case: expected false unless mentions is titles, got true with {self.mentions}")
        return self


class Recipe(BaseModel):
    """The settings of all stages of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = "recommended"
    download: DownloadConfig = DownloadConfig()
    convert: ConvertConfig = ConvertConfig()
    train_biencoder: TrainBiencoderConfig = TrainBiencoderConfig()
    fit_retrieval: FitRetrievalConfig = FitRetrievalConfig()
    eval_biencoder: EvalBiencoderConfig = EvalBiencoderConfig()
    train_crossencoder: TrainCrossencoderConfig = TrainCrossencoderConfig()
    eval_crossencoder: EvalCrossencoderConfig = EvalCrossencoderConfig()
    fuse: FuseConfig = FuseConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    compare: CompareConfig = CompareConfig()
    report: ReportConfig = ReportConfig()
    promote: PromoteConfig = PromoteConfig()


STAGE_CONFIGS: dict[str, type[StageConfig]] = {
    name: field.annotation  # type: ignore[misc]  # every field but `preset` is a StageConfig
    for name, field in Recipe.model_fields.items()
    if name != "preset"
}
