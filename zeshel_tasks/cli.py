"""``zeshel``: one subcommand for each stage, and a few for whole runs.

    zeshel train-biencoder --run s3://bucket/zeshel/runs/r1 --preset recommended --learning_rate 2e-5
    zeshel eval-biencoder --run s3://bucket/zeshel/runs/r1 --split test
    zeshel pipeline --run out/runs/r1 --preset smoke --source data.tar.bz2 --bert_model models/bert
    zeshel show --run out/runs/r1
    zeshel rollback --store s3://bucket/zeshel --reason "odd links in sports"
    zeshel gc --store s3://bucket/zeshel --older-than 30d --dry-run

A stage takes its own settings; ``pipeline`` takes those of all stages, as ``--stage.setting`` or, for every stage
that has it, ``--setting``. Dashes and underscores are the same. Exit codes are in ``errors.py``.
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
from typing import Any, NoReturn, get_origin

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
    """Runs one subcommand and returns its exit code."""
    set_up_logs()
    # It unwinds the stack, so that scratch files go; a training turns it into a checkpoint.
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
        log.error("told to stop before it could finish; the next attempt starts from what was committed")
        return EXIT_TRY_AGAIN
    except KeyboardInterrupt:
        log.error("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader has seen enough: `zeshel show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OK


class _ToldToStop(BaseException):
    """SIGTERM; not an Exception, so that nothing on its way up takes it for one of its own."""


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would cut the cleaning up short
    raise _ToldToStop


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="zeshel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"zeshel-tasks {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, known in STAGES.items():
        model = STAGE_CONFIGS[known.settings]
        split = f"--split {{{','.join(known.splits)}}} " if known.splits else ""
        usage = f"zeshel {name} --run ADDRESS {split}[--preset P] [--config FILE.yaml] [--setting VALUE ...]"
        stage = commands.add_parser(name, usage=usage, help=_first_line(model), description=_first_line(model))
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
    pipeline = commands.add_parser(
        "pipeline",
        usage="zeshel pipeline --run ADDRESS [--preset P] [--config FILE.yaml] [--[stage.]setting VALUE ...]",
        help="run all stages in order on this machine, without Airflow",
    )
    _add_run_and_recipe(pipeline)
    for stage in STAGE_CONFIGS:
        _add_settings(pipeline, stage, prefix=f"{stage}.")
    everywhere = pipeline.add_argument_group("a setting of every stage that has it")
    fields = {name: field for model in STAGE_CONFIGS.values() for name, field in model.model_fields.items()}
    for name, field in sorted(fields.items()):
        everywhere.add_argument(
            f"--{name}", dest=f"setting:{name}", metavar="VALUE", help=argparse.SUPPRESS, **_value_options(field)
        )
    pipeline.set_defaults(command=_run_pipeline)

    show = commands.add_parser("show", help="what a run did: stages, metrics, provenance")
    _add_run(show)
    show.add_argument("--json", action="store_true", help="everything, for programs")
    show.set_defaults(command=_show)

    export = commands.add_parser("export-blink", help="write a run's results as BLINK's own files")
    _add_run(export)
    export.add_argument("--out", required=True, type=_path, help="a new or empty directory")
    export.set_defaults(command=_export)

    track = commands.add_parser("track", help="tell MLflow ($MLFLOW_TRACKING_URI) of a run; stages do so themselves")
    _add_run(track)
    track.set_defaults(command=_track)

    champions = commands.add_parser("champions", help="the models that were promoted, the one in use first")
    _add_store(champions)
    champions.set_defaults(command=_champions)

    rollback = commands.add_parser("rollback", help="make the champion before this one the champion again")
    _add_store(rollback)
    rollback.add_argument("--reason", default="no reason given", metavar="TEXT", help="kept beside the model")
    rollback.set_defaults(command=_roll_back)

    gc = commands.add_parser("gc", help="remove from a store what no run refers to")
    _add_store(gc)
    gc.add_argument("--older_than", required=True, metavar="DAYS", help="how old it must be: 30d; at least 2d")
    gc.add_argument("--dry_run", action="store_true", help="only say what would go")
    gc.set_defaults(command=_collect_garbage)


def _add_commands_for_the_demo(commands: Any) -> None:
    worlds = commands.add_parser("make-sample-worlds", help="generate a small data set in ZESHEL's format")
    worlds.add_argument("--out", required=True, type=_path, help="the archive to write (.tar.bz2)")
    worlds.add_argument("--seed", type=_seed, default=7)
    worlds.set_defaults(command=_make_sample_worlds)

    bert = commands.add_parser("make-small-bert", help="build a small BERT from scratch for a data set")
    bert.add_argument("--data", required=True, type=_path, help="archive in ZESHEL's format")
    bert.add_argument("--out", required=True, type=_path, help="the model directory to write")
    bert.add_argument("--vocab_size", type=int, default=1200, help="WordPieces; 1200 suits the sample worlds")
    bert.add_argument("--seed", type=_seed, default=7)
    bert.set_defaults(command=_make_small_bert)

    inputs = commands.add_parser("make-sample-inputs", help="both of these, in a store: to try a deployment with")
    inputs.add_argument(
        "--out", required=True, type=_address, metavar="ADDRESS", help="a directory or s3://bucket/prefix"
    )
    inputs.set_defaults(command=_make_sample_inputs)


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
    parser.add_argument("--preset", choices=list(PRESETS), help="values for all that is not said (recommended)")
    parser.add_argument("--config", metavar="FILE.yaml", type=_path, help="settings; flags win over it")


def _add_settings(parser: argparse.ArgumentParser, stage: str, *, prefix: str) -> None:
    model = STAGE_CONFIGS[stage]
    group = parser.add_argument_group(prefix.rstrip(".") or "settings", _first_line(model))
    for name, field in model.model_fields.items():
        text = f"{field.description} ({_in_presets(preset_values(stage, name))})".replace("%", "%%")
        group.add_argument(
            f"--{prefix}{name}", dest=f"setting:{prefix}{name}", metavar="VALUE", help=text, **_value_options(field)
        )


def _value_options(field: FieldInfo) -> dict[str, Any]:
    """A list is given one by one. A bare switch means true, as BLINK's --data_parallel; a value is always welcome."""
    if get_origin(field.annotation) is tuple:
        return {"action": "append"}
    return {"nargs": "?", "const": "true"} if field.annotation is bool else {}


def _recipe(options: argparse.Namespace, prefix: str = "") -> Recipe:
    """Preset, then the file, then the flags."""
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
    if config.exists() and not config.is_file():  # a pipe that nobody writes to would be waited for
        raise ConfigError(f"--config: expected a YAML file, got {config}, which is none")
    try:
        with config.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: expected a readable YAML file, got {config}: {error}") from error


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
        raise ConfigError(f"--out: expected a folder to write, got {options.out}, which is none")
    build_small_bert(options.data, _with_folder(options.out), seed=options.seed, vocab_size=options.vocab_size)


def _make_sample_inputs(options: argparse.Namespace) -> None:
    from zeshel_tasks.demo.sample_inputs import make_sample_inputs

    make_sample_inputs(options.out)


def _with_folder(out: Path) -> Path:
    """``out``, in a folder that is there."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"--out: expected a path that can be written, got {out}: {error}") from error
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
    """Reports a wrong command line as every other wrong setting is reported; flags are never guessed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def _with_underscores(arguments: Sequence[str]) -> list[str]:
    """``--top-k=8`` as ``--top_k=8``: settings have BLINK's underscores, fingers have habits."""
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
