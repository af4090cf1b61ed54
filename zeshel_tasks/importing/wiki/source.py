"""Makes a data set of the dump that a source of the stage ``download`` names."""

from __future__ import annotations

from pathlib import Path

from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.download.dumps import obtain_dump
from zeshel_tasks.download.sources import config_of
from zeshel_tasks.download.transfer import Fetched
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.publish import world_name
from zeshel_tasks.importing.wiki.kept_pages import KeptPages
from zeshel_tasks.importing.wiki.summary import Summary
from zeshel_tasks.importing.wiki.world import WikiSettings, make_world
from zeshel_tasks.location import WikiDump


def obtain_wiki(
    source: str, location: WikiDump, data: Path, scratch: Path, config: DownloadConfig, kept: KeptPages
) -> tuple[Fetched, Summary]:
    """Puts the data set of a wiki into a new folder.

    Args:
        source: the setting.
        location: the same, parsed.
        data: the folder.
        scratch: an empty folder for temporary files.
        config: limits of size and time, and how the wiki is divided.
        kept: pages that an earlier attempt has parsed. Those that this one parses are added.

    Returns:
        Size and SHA-256 of the dump (for several files, of their hashes), and what became of its pages.

    Raises:
        ConfigError: the address is wrong, the name of the file begins with no name of a world, or the wiki is too small
            for its shares.
        DataError: the dump is damaged, cut or too large, or has no links between its pages.
        StoreUnavailable: the server does not answer.
    """
    try:
        world = world_name(location.world)
    except ValueError as error:
        raise ConfigError(f"source: {error}, got {location.world!r} in {location.name}") from error
    for name in ("dump", "import"):
        (scratch / name).mkdir()
    files, fetched = obtain_dump(location, scratch / "dump", config_of(source, config))
    settings = WikiSettings(world, shares=config.shares_of_wiki(world), max_bytes=int(config.max_unpacked_gb * 1e9))
    dumps = [Input(path, name) for name, path in files.items()]
    summary = make_world(dumps, settings, data, scratch / "parsed", scratch / "import", kept)
    return fetched, summary
