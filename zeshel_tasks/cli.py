"""The command line ``zeshel``: parses, sets up logs, maps exceptions to exit codes (``errors.py``)."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

from zeshel_tasks import __version__
from zeshel_tasks.commands.argument_types import count, path, run, seed, store
from zeshel_tasks.commands.encode import add_cut_flags, add_encode_flags
from zeshel_tasks.commands.export import add_export_flags
from zeshel_tasks.commands.import_flags import add_entity_flags, add_mention_export_flags, add_mention_flags
from zeshel_tasks.commands.import_wiki import add_wiki_flags
from zeshel_tasks.commands.kb import add_kb_commands
from zeshel_tasks.commands.link import add_link_flags
from zeshel_tasks.commands.outputs import check_replaceable, with_folder
from zeshel_tasks.commands.serve import add_serve_flags
from zeshel_tasks.commands.settings_flags import (
    add_recipe,
    add_settings_to_check,
    add_shared_settings,
    add_stage_settings,
    recipe_of,
    with_underscores,
)
from zeshel_tasks.compute.disk import full_disk_named, refused_access_named
from zeshel_tasks.compute.gang_seat import leads_in
from zeshel_tasks.compute.telemetry import exported
from zeshel_tasks.compute.termination import until_sigterm
from zeshel_tasks.errors import EXIT_OK, ConfigError, ZeshelError
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Stage
from zeshel_tasks.text.logs import discard_output, flush_output, output_has_reader, set_up_logs

log = logging.getLogger("zeshel_tasks.cli")

DESCRIPTION = """\
Run the stages that retrain an entity linker, and inspect and manage their runs.

  zeshel train-biencoder --run s3://bucket/zeshel/runs/r1 --preset recommended --learning_rate 2e-5
  zeshel eval-biencoder --run s3://bucket/zeshel/runs/r1 --split test
  zeshel pipeline --run out/runs/r1 --preset smoke --source data.tar.bz2 --bert_model models/bert
  zeshel show --run out/runs/r1
  zeshel link --store s3://bucket/zeshel --kb products --text "The [[Batmobile]] left"
  zeshel serve --store s3://bucket/zeshel --kb products
  zeshel rollback --store s3://bucket/zeshel --reason "odd links in sports"
  zeshel gc --store s3://bucket/zeshel --older-than 30d --dry-run

A stage accepts its own settings. pipeline accepts the settings of all stages: --stage.setting sets one stage,
--setting sets every stage that has the setting. train-biencoder also accepts --train_crossencoder.setting, because it
checks that the model is suitable for both encoders. Dashes and underscores in flags are equivalent.

Exit codes: 0 done or reused, 2 wrong setting, 3 invalid data, 75 try again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    set_up_logs()
    try:
        return until_sigterm(lambda: _main(arguments))
    finally:
        flush_output()


def _main(arguments: Sequence[str] | None) -> int:
    try:
        _check_interpreter()
        options = _parser().parse_args(with_underscores(sys.argv[1:] if arguments is None else arguments))
        with refused_access_named(), full_disk_named():
            options.command(options)
            sys.stdout.flush()
    except ZeshelError as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `zeshel show ... | head`
        if output_has_reader():
            raise
        discard_output()
    return EXIT_OK


def _check_interpreter() -> None:
    if sys.flags.optimize > 1:
        raise ConfigError("Python: expected docstrings, which transformers reads, got -OO or PYTHONOPTIMIZE=2")


@functools.cache  # 16 ms, which a process that runs many commands pays once
def _parser() -> _MainParser:
    parser = _MainParser(prog="zeshel", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"zeshel-tasks {__version__}")
    for stage in STAGES.values():
        _add_stage(parser, stage)
    _add_commands_on_runs(parser)
    _add_commands_on_stores(parser)
    add_entity_flags(parser.add_command("import-entities", "Make a world of a knowledge base in another format."))
    add_mention_flags(parser.add_command("import-mentions", "Make a data set of texts with mentions of such worlds."))
    add_wiki_flags(parser.add_command("import-wiki", "Make a world of the dump of a MediaWiki."))
    add_mention_export_flags(
        parser.add_command("export-mentions", "Write texts and mentions of such a data set as JSON.")
    )
    if find_spec("zeshel_tasks.demo"):  # Airflow's image does without it
        _add_commands_for_the_demo(parser)
    return parser


def _add_stage(main_parser: _MainParser, stage: Stage) -> None:
    split = f"--split {{{','.join(stage.splits)}}} " if stage.splits else ""
    usage = f"zeshel {stage.name} --run ADDRESS {split}[--preset P] [--config FILE.yaml] [--setting VALUE ...]"
    parser = main_parser.add_command(stage.name, stage.summary, usage=usage)
    _add_run(parser)
    add_recipe(parser)
    if stage.splits:
        parser.add_argument("--split", required=True, choices=stage.splits)
    add_stage_settings(parser, stage)
    for name in stage.checks:
        add_settings_to_check(parser, STAGES[name])
    parser.set_defaults(command=_run_stage, stage=stage)


def _add_commands_on_runs(main_parser: _MainParser) -> None:
    pipeline = main_parser.add_command(
        "pipeline",
        "Run all stages in order on this machine, without Airflow.",
        usage="zeshel pipeline --run ADDRESS [--preset P] [--config FILE.yaml] [--[stage.]setting VALUE ...]",
    )
    _add_run(pipeline)
    add_recipe(pipeline)
    for stage in STAGES.values():
        add_stage_settings(pipeline, stage, prefix=f"{stage.settings}.")
    add_shared_settings(pipeline)
    pipeline.set_defaults(command=_run_pipeline)

    cut = main_parser.add_command("cut-worlds", "Divide large worlds into shards, which several machines may encode.")
    _add_run(cut)
    add_cut_flags(cut)

    encode = main_parser.add_command("encode-shard", "Encode some shards of large worlds, ahead of their evaluation.")
    _add_run(encode)
    add_encode_flags(encode)

    show = main_parser.add_command("show", "Show the stages, metrics and provenance of a run.")
    _add_run(show)
    show.add_argument("--json", action="store_true", help="print everything as JSON")
    show.set_defaults(command=_show)

    export = main_parser.add_command("export-blink", "Write the results of a run in BLINK's file formats.")
    _add_run(export)
    export.add_argument("--out", required=True, type=path, help="a new or empty directory")
    export.set_defaults(command=_export_blink)
    models = main_parser.add_command("export", "Write the models of a run or of the champion for another program.")
    add_export_flags(models)
    models.set_defaults(command=_export)

    track = main_parser.add_command("track", "Send a run to MLflow ($MLFLOW_TRACKING_URI), as each stage does.")
    _add_run(track)
    track.set_defaults(command=_track)


def _add_commands_on_stores(main_parser: _MainParser) -> None:
    champions = main_parser.add_command("champions", "List the champion and the champions before it.")
    _add_store(champions)
    champions.set_defaults(command=_champions)

    add_link_flags(
        main_parser.add_command("link", "Link the mentions of your texts against a knowledge base, with the champion.")
    )

    add_serve_flags(main_parser.add_command("serve", "Link texts over HTTP with the champion, and follow it."))

    rollback = main_parser.add_command("rollback", "Return to the previous champion.")
    _add_store(rollback)
    rollback.add_argument("--reason", default="no reason given", metavar="TEXT", help="recorded with the model")
    rollback.set_defaults(command=_roll_back)

    add_kb_commands(
        main_parser.add_command("kb", "Build, change, list and delete knowledge bases of your own entities.")
    )

    gc = main_parser.add_command("gc", "Remove old runs, and everything that no run or knowledge base refers to.")
    _add_store(gc)
    gc.add_argument("--older_than", required=True, metavar="DAYS", help="minimum age, for example 30d; at least 2d")
    gc.add_argument(
        "--keep_runs",
        type=count,
        metavar="N",
        help="also remove runs of this age (at least 14d), except the N newest and those of the champions",
    )
    gc.add_argument("--dry_run", action="store_true", help="only list what would be removed")
    gc.set_defaults(command=_collect_garbage)


def _add_commands_for_the_demo(main_parser: _MainParser) -> None:
    worlds = main_parser.add_command("make-sample-worlds", "Generate a small data set in ZESHEL's format.")
    worlds.add_argument("--out", required=True, type=path, help="the archive to write (.tar.bz2)")
    worlds.add_argument("--seed", type=seed, default=7)
    worlds.set_defaults(command=_make_sample_worlds)

    bert = main_parser.add_command("make-small-bert", "Pretrain a small BERT on a data set.")
    bert.add_argument("--data", required=True, type=path, help="archive in ZESHEL's format")
    bert.add_argument("--out", required=True, type=path, help="the model directory to write")
    bert.add_argument("--vocab_size", type=int, default=1200, help="number of WordPieces; 1200 suits the sample worlds")
    bert.add_argument("--seed", type=seed, default=7)
    bert.set_defaults(command=_make_small_bert)

    inputs = main_parser.add_command("make-sample-inputs", "Write sample worlds and a small BERT to a store.")
    inputs.add_argument("--out", required=True, type=store, metavar="ADDRESS", help="a directory or s3://bucket/prefix")
    inputs.set_defaults(command=_make_sample_inputs)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", required=True, type=run, metavar="ADDRESS", help="<store>/runs/<run id>, local or s3://"
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", required=True, type=store, metavar="ADDRESS", help="a directory or s3://bucket/prefix"
    )


@exported()
def _run_stage(options: argparse.Namespace) -> None:
    recipe = recipe_of(options, prefix=f"{options.stage.settings}.")
    run_stage(options.stage, options.run, recipe, getattr(options, "split", None))
    if leads_in(os.environ):
        _tell_mlflow(options.run)


@exported()
def _run_pipeline(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.pipeline import run_pipeline

    run_pipeline(options.run, recipe_of(options), after_each=_tell_mlflow)


def _tell_mlflow(run: str) -> None:
    from zeshel_tasks.commands.tracking import tell_of_run

    tell_of_run(run)


def _track(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.tracking import track_run

    track_run(options.run)


def _show(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.show import show_run

    show_run(options.run, as_json=options.json)


def _export_blink(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.export import export_blink

    export_blink(options.run, with_folder(options.out))


def _export(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.export import export

    export(options, with_folder(options.out))


def _champions(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.champions import show_champions

    show_champions(options.store)


def _roll_back(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.champions import roll_back
    from zeshel_tasks.commands.tracking import tell_of_champion

    roll_back(options.store, options.reason)
    tell_of_champion(options.store)


def _collect_garbage(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.gc import collect_garbage

    collect_garbage(options.store, options.older_than, options.keep_runs, dry_run=options.dry_run)


def _make_sample_worlds(options: argparse.Namespace) -> None:
    from zeshel_tasks.demo.sample_worlds import write_sample_worlds

    check_replaceable(options.out)
    write_sample_worlds(with_folder(options.out), seed=options.seed)


def _make_small_bert(options: argparse.Namespace) -> None:
    from zeshel_tasks.demo.small_bert import build_small_bert

    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out: expected a folder to write, got {options.out}, which is not a folder")
    build_small_bert(options.data, with_folder(options.out), seed=options.seed, vocab_size=options.vocab_size)


def _make_sample_inputs(options: argparse.Namespace) -> None:
    from zeshel_tasks.demo.sample_inputs import make_sample_inputs

    make_sample_inputs(options.out)


class _Parser(argparse.ArgumentParser):
    """Reports errors as ConfigError and does not accept abbreviated flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


class _MainParser(_Parser):
    """Answers a missing or unknown command with the list of commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._commands = self.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add_command(self, name: str, summary: str, **options: Any) -> argparse.ArgumentParser:
        """A subcommand; ``summary`` is its line in the list and the first line of its own help."""
        return self._commands.add_parser(name, help=summary, description=summary, **options)

    def error(self, message: str) -> NoReturn:
        if "COMMAND" not in message or message.startswith("unrecognized arguments"):
            super().error(message)
        unknown = re.search(r"invalid choice: (.+) \(choose from", message)
        raise ConfigError(f"COMMAND: expected one of these, got {unknown[1] if unknown else 'none'}", *self._list())

    def _list(self) -> Iterator[str]:
        for name, parser in self._commands.choices.items():
            yield f"  {name:<20}{parser.description}"
