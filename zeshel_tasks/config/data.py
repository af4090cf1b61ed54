"""Settings of the stages that get the data set: download and convert."""

from __future__ import annotations

from typing import Annotated, Literal, Self, cast
from unicodedata import normalize

from pydantic import Field, model_validator

from zeshel_tasks.config.splits import Shares, Split
from zeshel_tasks.config.stage_config import ADDRESS, PRINTABLE, StageConfig, setting, takes
from zeshel_tasks.location import MAX_CHARACTERS, source_location

ZESHEL_ON_GOOGLE_DRIVE = "https://drive.google.com/uc?export=download&id=1ZcKZ1is0VEkY9kNfPxIG19qEIqHE5LIO"

SourceAddress = Annotated[str, ADDRESS, takes(source_location)]
WikiShares = Annotated[str, Field(max_length=200), takes(Shares.parse)]
WorldToSplit = Annotated[str, Field(max_length=MAX_CHARACTERS, pattern=rf"^{PRINTABLE}+=(train|valid|test)$")]
PrivateAddresses = Literal["refuse", "allow"]


class DownloadConfig(StageConfig):
    """Download and verify the data set."""

    source: SourceAddress = setting(
        ZESHEL_ON_GOOGLE_DRIVE,
        "The data set: an archive (.tar.bz2, .tar.gz, .tar.xz or .tar) at an http(s), s3 or file address or a local "
        "path; a folder with documents/ and mentions/, either local or s3://bucket/prefix/ with a trailing slash; or "
        "wiki:ADDRESS, the dump of a MediaWiki, which becomes a world of the name with which the file's name begins. A "
        "dump in several files is one address, with a * for what differs between their names.",
        affects_result=False,  # the content's identity goes into the fingerprint instead of its address
    )
    more_sources: tuple[SourceAddress, ...] = setting(
        (),
        "More data sets to merge with source, one per line. Each is an archive, a folder or a wiki's dump, and no two "
        "data sets may contain the same world.",
        affects_result=False,
        max_length=1000,
    )
    worlds_to_splits: tuple[WorldToSplit, ...] = setting(
        (),
        "Move all mentions of a world to a split, one world=split per line (my_wiki=test). Other worlds keep the split "
        "that their data set assigns.",
        max_length=10_000,
    )
    wiki_shares: WikiShares = setting(
        "train=0.8,valid=0.1,test=0.1",
        "How the mentions of wiki:ADDRESS are divided, by pages: shares of train, valid, test, heldout_train_seen and "
        "heldout_train_unseen. A wiki in worlds_to_splits is not divided.",
        affects_result=False,  # part of the identity of each dump, so other data sets do not depend on it
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

    def shares_of_wiki(self, world: str) -> Shares:
        """The share of each split in the mentions of a wiki."""
        split = self.assigned.get(normalize("NFC", world))
        return Shares.parse(self.wiki_shares) if split is None else Shares({split: 1.0})

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
