from pathlib import Path

from zeshel_tasks.demo.links import MENTIONS, unseen_mentions
from zeshel_tasks.link_files.lines import LineReader
from zeshel_tasks.store import Run
from zeshel_tasks.text.json_text import to_json


def test_the_demo_links_mentions_of_a_test_world(finished_run: Run, tmp_path: Path) -> None:
    world, lines = unseen_mentions(finished_run, tmp_path)
    converted = finished_run.artifact("convert", tmp_path)
    assert world in converted.manifest.metrics["worlds"]["test"]
    assert not any(world in converted.manifest.metrics["worlds"][split] for split in ("train", "valid"))
    assert len({to_json(line) for line in lines}) == MENTIONS
    reader = LineReader("demo", 8, "code_points", tokenized=False, find_page={}.get)
    assert all(len(reader.read(to_json(line).encode(), 1).mentions) == 1 for line in lines)
