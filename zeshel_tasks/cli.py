"""Run the stages that retrain an entity linker, and inspect and manage their runs.

    zeshel train-biencoder --run s3://bucket/zeshel/runs/r1 --preset recommended --learning_rate 2e-5
    zeshel eval-biencoder --run s3://bucket/zeshel/runs/r1 --split test
    zeshel pipeline --run out/runs/r1 --preset smoke --source data.tar.bz2 --bert_model models/bert
    zeshel show --run out/runs/r1
    zeshel rollback --store s3://bucket/zeshel --reason "odd links in sports"
    zeshel gc --store s3://bucket/zeshel --older-than 30d --dry-run

A stage accepts its own settings. pipeline accepts the settings of all stages: --stage.setting sets one stage,
--setting sets every stage that has the setting. Dashes and underscores in flags are equivalent.

Exit codes: 0 done or reused, 2 wrong setting, 3 invalid data, 75 try again.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast, get_origin

from pydantic.fields import FieldInfo

from zeshel_tasks import __version__
from zeshel_tasks.compute.disk import full_disk_named
from zeshel_tasks.config import STAGE_CONFIGS, Preset, Recipe, StageConfig
from zeshel_tasks.errors import EXIT_OK, EXIT_TRY_AGAIN, ConfigError, ZeshelError
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.presets import PRESETS
from zeshel_tasks.recipe import build_recipe, preset_values, read_config_file
from zeshel_tasks.text.addresses import checked_address
from zeshel_tasks.text.logs import set_up_logs
from zeshel_tasks.text.safe_text import quoted
from zeshel_tasks.text.yaml_text import MAX_CHARACTERS

log = logging.getLogger("zeshel_tasks.cli")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    set_up_logs()
    # Unwinds the stack, so that scratch files are removed. A training saves a checkpoint instead.
    signal.signal(signal.SIGTERM, _stop)
    try:
        options = _parser().parse_args(_with_underscores(sys.argv[1:] if arguments is None else arguments))
        with full_disk_named():
            options.command(options)
    except ZeshelError as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        return error.exit_code
    except _ToldToStop:
        log.error("stopped by SIGTERM before the end; the next attempt reuses the committed results")
        return EXIT_TRY_AGAIN
    except KeyboardInterrupt:
        log.error("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader has seen enough: `zeshel show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OK


class _ToldToStop(BaseException):
    """SIGTERM. Not an Exception, so that no handler on the way up catches it."""


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second SIGTERM would interrupt the cleanup
    raise _ToldToStop


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="zeshel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"zeshel-tasks {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    parser.set_defaults(command=_refuse_missing_command, commands=commands.choices)
    for name, known in STAGES.items():
        model = STAGE_CONFIGS[known.settings]
        split = f"--split {{{','.join(known.splits)}}} " if known.splits else ""
        usage = f"zeshel {name} --run ADDRESS {split}[--preset P] [--config FILE.yaml] [--setting VALUE ...]"
        stage = _add_command(commands, name, _first_line(model), usage=usage)
        _add_run_and_recipe(stage)
        if known.splits:
            stage.add_argument("--split", required=True, choices=known.splits)
        _add_settings(stage, known.settings, prefix="")
        stage.set_defaults(command=_run_stage, stage=known)
    _add_commands_on_runs(commands)
    if find_spec("zeshel_tasks.demo"):  # Airflow's image does without it
        _add_commands_for_the_demo(commands)
    return parser


def _add_commands_on_runs(commands: Any) -> None:
    pipeline = _add_command(
        commands,
        "pipeline",
        "Run all stages in order on this machine, without Airflow.",
        usage="zeshel pipeline --run ADDRESS [--preset P] [--config FILE.yaml] [--[stage.]setting VALUE ...]",
    )
    _add_run_and_recipe(pipeline)
    for stage in STAGE_CONFIGS:
        _add_settings(pipeline, stage, prefix=f"{stage}.")
    everywhere = pipeline.add_argument_group("settings of every stage that has them")
    fields = {name: field for model in STAGE_CONFIGS.values() for name, field in model.model_fields.items()}
    for name, field in sorted(fields.items()):
        everywhere.add_argument(
            f"--{name}", dest=f"setting:{name}", metavar="VALUE", help=argparse.SUPPRESS, **_value_options(field)
        )
    pipeline.set_defaults(command=_run_pipeline)

    show = _add_command(commands, "show", "Show the stages, metrics and provenance of a run.")
    _add_run(show)
    show.add_argument("--json", action="store_true", help="print everything as JSON")
    show.set_defaults(command=_show)

    export = _add_command(commands, "export-blink", "Write the results of a run in BLINK's file formats.")
    _add_run(export)
    export.add_argument("--out", required=True, type=_path, help="a new or empty directory")
    export.set_defaults(command=_export)

    track = _add_command(commands, "track", "Send a run to MLflow ($MLFLOW_TRACKING_URI), as each stage does.")
    _add_run(track)
    track.set_defaults(command=_track)

    champions = _add_command(commands, "champions", "List the champion and the champions before it.")
    _add_store(champions)
    champions.set_defaults(command=_champions)

    rollback = _add_command(commands, "rollback", "Return to the previous champion.")
    _add_store(rollback)
    rollback.add_argument("--reason", default="no reason given", metavar="TEXT", help="recorded with the model")
    rollback.set_defaults(command=_roll_back)

    gc = _add_command(commands, "gc", "Remove everything from a store that no run refers to.")
    _add_store(gc)
    gc.add_argument("--older_than", required=True, metavar="DAYS", help="minimum age, for example 30d; at least 2d")
    gc.add_argument("--dry_run", action="store_true", help="only list what would be removed")
    gc.set_defaults(command=_collect_garbage)


def _add_commands_for_the_demo(commands: Any) -> None:
    worlds = _add_command(commands, "make-sample-worlds", "Generate a small data set in ZESHEL's format.")
    worlds.add_argument("--out", required=True, type=_path, help="the archive to write (.tar.bz2)")
    worlds.add_argument("--seed", type=_seed, default=7)
    worlds.set_defaults(command=_make_sample_worlds)

    bert = _add_command(commands, "make-small-bert", "Pretrain a small BERT on a data set.")
    bert.add_argument("--data", required=True, type=_path, help="archive in ZESHEL's format")
    bert.add_argument("--out", required=True, type=_path, help="the model directory to write")
    bert.add_argument("--vocab_size", type=int, default=1200, help="number of WordPieces; 1200 suits the sample worlds")
    bert.add_argument("--seed", type=_seed, default=7)
    bert.set_defaults(command=_make_small_bert)

    inputs = _add_command(commands, "make-sample-inputs", "Write sample worlds and a small BERT to a store.")
    inputs.add_argument(
        "--out", required=True, type=_address, metavar="ADDRESS", help="a directory or s3://bucket/prefix"
    )
    inputs.set_defaults(command=_make_sample_inputs)


def _add_command(commands: Any, name: str, text: str, **options: str) -> argparse.ArgumentParser:
    """Add a command. ``text`` says what it does, in the list of commands and in its own help."""
    return cast("argparse.ArgumentParser", commands.add_parser(name, help=text, description=text, **options))


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", required=True, type=_address, metavar="ADDRESS", help="<store>/runs/<run id>, local or s3://"
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", required=True, type=_address, metavar="ADDRESS", help="a directory or s3://bucket/prefix"
    )


def _add_run_and_recipe(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="values of all settings that are not set otherwise (default: recommended)",
    )
    parser.add_argument("--config", metavar="FILE.yaml", type=_path, help="file with settings; flags override it")


def _add_settings(parser: argparse.ArgumentParser, stage: str, *, prefix: str) -> None:
    model = STAGE_CONFIGS[stage]
    group = parser.add_argument_group(prefix.rstrip(".") or "settings", _first_line(model))
    for name, field in model.model_fields.items():
        text = f"{field.description} ({_in_presets(preset_values(stage, name))})".replace("%", "%%")
        group.add_argument(
            f"--{prefix}{name}", dest=f"setting:{prefix}{name}", metavar="VALUE", help=text, **_value_options(field)
        )


def _value_options(field: FieldInfo) -> dict[str, Any]:
    """Repeat a flag to give a list. A boolean flag without a value means true, as in BLINK's --data_parallel."""
    if get_origin(field.annotation) is tuple:
        return {"action": "append"}
    return {"nargs": "?", "const": "true"} if field.annotation is bool else {}


def _recipe(options: argparse.Namespace, prefix: str = "") -> Recipe:
    """Build the recipe from the preset, the file and the flags; later ones take precedence."""
    preset: str | None = None
    from_file: dict[str, Any] = {}
    if options.config is not None:
        preset, from_file = read_config_file(str(options.config), _text_of(options.config))
    flags = {
        prefix + name.removeprefix("setting:"): value
        for name, value in vars(options).items()
        if name.startswith("setting:") and value is not None
    }
    return build_recipe(options.preset or preset or "recommended", from_file, flags)


def _text_of(config: Path) -> str:
    if config.exists() and not config.is_file():  # reading a pipe without a writer would block
        raise ConfigError(f"--config: expected a YAML file, got {config}, which is not a file")
    try:
        with config.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: expected a readable YAML file, got {config}: {error}") from error


def _refuse_missing_command(options: argparse.Namespace) -> None:
    raise ConfigError(f"COMMAND: expected one of {', '.join(options.commands)}, got none (see zeshel --help)")


def _run_stage(options: argparse.Namespace) -> None:
    recipe = _recipe(options, prefix=f"{options.stage.settings}.")
    run_stage(options.stage, options.run, recipe, getattr(options, "split", None))
    _tell_mlflow(options.run)


def _run_pipeline(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.pipeline import run_pipeline

    run_pipeline(options.run, _recipe(options), after_each=_tell_mlflow)


def _tell_mlflow(run: str) -> None:
    from zeshel_tasks.commands.tracking import tell_of_run

    tell_of_run(run)


def _track(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.tracking import track_run

    track_run(options.run)


def _show(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.show import show_run

    show_run(options.run, as_json=options.json)


def _export(options: argparse.Namespace) -> None:
    from zeshel_tasks.commands.export_blink import export_blink

    export_blink(options.run, _with_folder(options.out))


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

    collect_garbage(options.store, options.older_than, dry_run=options.dry_run)


def _make_sample_worlds(options: argparse.Namespace) -> None:
    from zeshel_tasks.demo.sample_worlds import write_sample_worlds

    if options.out.is_dir():
        raise ConfigError(f"--out: expected a file to write, got the folder {options.out}")
    write_sample_worlds(_with_folder(options.out), seed=options.seed)


def _make_small_bert(options: argparse.Namespace) -> None:
    from zeshel_tasks.demo.small_bert import build_small_bert

    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out: expected a folder to write, got {options.out}, which is not a folder")
    build_small_bert(options.data, _with_folder(options.out), seed=options.seed, vocab_size=options.vocab_size)


def _make_sample_inputs(options: argparse.Namespace) -> None:
    from zeshel_tasks.demo.sample_inputs import make_sample_inputs

    make_sample_inputs(options.out)


def _with_folder(out: Path) -> Path:
    """Create the parent folder of ``out``."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"--out: expected a writable path, got {out}: {error}") from error
    return out


def _address(text: str) -> str:
    try:
        return checked_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _path(text: str) -> Path:
    return Path(_address(text))


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to {2**32 - 1}, got {quoted(text)}")
    return seed


class _Parser(argparse.ArgumentParser):
    """Reports errors as ConfigError and does not accept abbreviated flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def _with_underscores(arguments: Sequence[str]) -> list[str]:
    """Convert ``--top-k=8`` to ``--top_k=8``: settings have BLINK's underscores, but users often type dashes."""
    flags = (argument.partition("=") for argument in arguments)
    return [(name.replace("-", "_").replace("__", "--", 1) if name.startswith("--") else name) + eq + value
            for name, eq, value in flags]  # fmt: skip


def _in_presets(values: dict[Preset, Any]) -> str:
    """``64``, or ``blink 64, recommended 64, smoke 16``."""
    if len(set(values.values())) == 1:
        return "none" if values["recommended"] == () else str(values["recommended"])
    return ", ".join(f"{preset} {value}" for preset, value in values.items())


def _first_line(model: type[StageConfig]) -> str:
    return (model.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
