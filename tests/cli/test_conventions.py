"""What all commands have in common: options, help, messages, Ctrl-C and closed pipes."""

from __future__ import annotations

import ast
import contextlib
import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE

import click
import pytest
from click.testing import CliRunner, Result

import fti_ingest
import fti_ingest.cli.main
import fti_qdrant
import fti_qdrant.cli.demo
import fti_qdrant.cli.evaluate
import fti_qdrant.cli.search
import fti_qdrant.cli.serve
import fti_training
import fti_training.cli.main
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.logging_options import (
    LOGGERS,
    _StandardError,
    configure_logging,
    logging_options,
)
from fti_qdrant.cli.program_options import program_options
from fti_qdrant.cli.progress import step_progress
from fti_qdrant.cli.renamed_option import RenamedOption
from fti_qdrant.cli.user_text import as_text, print_json, printable
from fti_qdrant.errors import BadQuery, Interrupted
from tests.benchmarks import standins

PROGRAMS: dict[str, click.Command] = {
    "fti-search": fti_qdrant.cli.search.main,
    "fti-demo": fti_qdrant.cli.demo.main,
    "fti-serve": fti_qdrant.cli.serve.main,
    "fti-eval": fti_qdrant.cli.evaluate.main,
    "fti-ingest": fti_ingest.cli.main.main,
    "fti-train": fti_training.cli.main.main,
}


def commands() -> dict[str, click.Command]:
    """Every command by what a user types, without the groups themselves."""
    found = {}
    for program, command in PROGRAMS.items():
        if isinstance(command, click.Group):
            found |= {f"{program} {name}": one for name, one in command.commands.items()}
        else:
            found[program] = command
    return found


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands configure logging for the process that they run in."""
    yield
    logging.getLogger().setLevel(logging.WARNING)
    for logger in map(logging.getLogger, ("", *LOGGERS)):
        for handler in logger.handlers:
            if isinstance(handler, _StandardError):
                logger.removeHandler(handler)
        logger.setLevel(logging.WARNING if logger.name == "root" else logging.NOTSET)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_tells_its_version(program: str) -> None:
    done = CliRunner().invoke(PROGRAMS[program], ["--version"])
    assert done.output == f"{program} {version('fti-qdrant')}\n"


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_its_options_and_shows_examples(name: str) -> None:
    command = commands()[name]
    options = [one for one in command.params if isinstance(one, click.Option)]
    for option in options:
        assert option.help, f"{option.opts} has no help"
    spellings = {spelling for option in options for spelling in option.opts}
    assert {"--verbose", "--quiet"} <= spellings
    done = CliRunner().invoke(command, ["--help"])
    assert "Example" in done.output
    for option in options:
        assert option.opts[0] in done.output


class Logging:
    """A command that logs at every level, below a group, with a progress bar."""

    def __init__(self) -> None:
        @click.group()
        @program_options("fti-example")
        def group() -> None: ...

        @group.command()
        @logging_options
        def work() -> None:
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                logging.getLogger("fti_qdrant.example").log(level, logging.getLevelName(level))
                logging.getLogger("another").log(level, "another")
            with step_progress() as progress:
                progress.update(progress.add_task("images", total=1), advance=1)
            click.echo("result")

        self.group = group

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(self.group, arguments)


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        (["work"], ["WARNING", "ERROR"]),
        (["work", "-v"], ["INFO", "WARNING", "ERROR"]),
        (["-v", "work"], ["INFO", "WARNING", "ERROR"]),
        (["-v", "work", "-v"], ["DEBUG", "INFO", "WARNING", "ERROR"]),
        (["work", "-vv"], ["DEBUG", "INFO", "WARNING", "ERROR"]),
        (["work", "--quiet"], ["ERROR"]),
        (["-q", "work"], ["ERROR"]),
    ],
)
def test_messages_go_to_standard_error_by_level(arguments: list[str], levels: list[str]) -> None:
    done = Logging().run(*arguments)
    assert done.stdout == "result\n"
    lines = [line for line in done.stderr.splitlines() if ": " in line]
    assert lines == [f"{level}: {level}" for level in levels]
    assert ("images" in done.stderr) == (levels != ["ERROR"])


def test_verbose_messages_show_their_figures_once(tmp_path: Path) -> None:
    configure_logging(logging.INFO)
    logging.basicConfig()  # as some packages do when they are imported
    output = io.StringIO()
    with contextlib.redirect_stderr(output):
        extra = {"images": 71, "rejected": 0, "reason": "", "stages": [1], "_ray_time": 5}
        logging.getLogger("fti_ingest.run").info("listed", extra=extra)
        logging.getLogger("another.package").warning("something odd")
    assert output.getvalue() == "INFO: listed: images=71, rejected=0\nsomething odd\n"


def test_verbose_and_quiet_exclude_each_other() -> None:
    done = Logging().run("-v", "work", "-q")
    assert done.exit_code == 2
    assert "choose one of --verbose and --quiet" in done.stderr


def failing(error: BaseException, **options: str) -> Result:
    decorator = one_line_errors(**options) if options else one_line_errors

    @click.command()
    @decorator
    def command() -> None:
        raise error

    return CliRunner().invoke(command)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            BadQuery("limit must be at least 1,\n  got 0"),
            2,
            "Error: limit must be at least 1, got 0",
        ),
        (BadQuery("text 'a\x1b[2J'"), 2, r"Error: text 'a\x1b[2J'"),
        (ValueError("odd"), 1, "Error: unexpected ValueError: odd (for more: FTI_DEBUG=1)"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to continue"),
        (Interrupted("stopped; 3 images are stored"), 130, "stopped; 3 images are stored"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FTI_DEBUG", raising=False)
    done = failing(error)
    assert (done.exit_code, done.stderr, done.stdout) == (code, f"{line}\n", "")


def test_a_command_says_what_a_stop_leaves_behind() -> None:
    done = failing(KeyboardInterrupt(), after_stop="nothing was changed")
    assert done.stderr == "stopped; nothing was changed\n"


def test_a_library_that_ctrl_c_interrupts_may_fail_in_its_own_way() -> None:
    """As threading does, whose locks expect that nothing comes between two of their lines."""
    failed = RuntimeError("release unlocked lock")
    failed.__context__ = ValueError("while it cleans up")
    failed.__context__.__cause__ = KeyboardInterrupt()
    assert failing(failed).stderr == "stopped; run the same command again to continue\n"
    assert "unexpected RuntimeError" in failing(RuntimeError("release unlocked lock")).stderr


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTI_DEBUG", "1")
    error = BadQuery("x")
    assert failing(error).exception is error


def test_a_closed_pipe_is_silent() -> None:
    done = failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (done.exit_code, done.output) == (141, "")


def test_a_reader_that_leaves_ends_a_real_command_in_silence(tmp_path: Path) -> None:
    root = standins.circo(tmp_path)
    command = [sys.executable, "-m", "fti_qdrant.cli.evaluate", "doctor", "circo", "--json", "-q"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*command, "--root", root], stdout=write, stderr=PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_control_c_ends_a_real_command_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fti_qdrant.cli.demo", "--out", tmp_path, "-q"]
    process = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True)
    until = time.monotonic() + 60
    while len(list(tmp_path.glob("pictures/*.png"))) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    stopped = "stopped; run the same command again to continue\n"
    assert (process.returncode, out, err) == (130, "", stopped)
    assert 20 <= len(list(tmp_path.glob("pictures/*.png"))) < 3_500


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("two\nlines\tand\x07", r"two\nlines\tand\x07"),
        ("turned \u202eround", r"turned \u202eround"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\udce9.jpg"),
        ("👩🏽‍🚒 café 全角　", "👩🏽‍🚒 café 全角　"),  # joiners and wide spaces stay
        (12.5, "12.5"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(value: object, shown: str) -> None:
    assert printable(value) == shown


def test_rich_prints_user_data_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    for value in ("[/b]", "photos [old]/a.jpg", ":heart:", "[link=http://x]y"):
        Console(width=100).print(as_text(value))
        assert capsys.readouterr().out == f"{value}\n"


def test_tables_of_figures_print_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from fti_qdrant.cli.console import print_tables
    from fti_qdrant.cli.evaluate.tables import aspects_table, figures_table

    figures = {"[/b] a\x1b[2J": {"all": {"R@1": 0.5}, "[red]": {"R@1": 0.25}}}
    counts = {"all": 3, "[red]": 2}
    print_tables(
        [
            figures_table("emoji", "held[/i]out", "all", figures, comparable=False),
            aspects_table("R@1", "all", figures, counts, comparable=True),
        ]
    )
    out = capsys.readouterr().out
    for name in (r"[/b] a\x1b[2J", "[red]", "held[/i]out"):
        assert name in out
    assert "\x1b" not in out


def test_published_figures_stand_beside_ours_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    from fti_qdrant.benchmarks.published import published_for
    from fti_qdrant.cli.console import print_tables
    from fti_qdrant.cli.evaluate.tables import aspects_table

    kinds = ("all", "dress", "shirt", "toptee")
    figures = {"fti": {kind: {"R@10": 0.5} for kind in kinds}}
    counts = dict.fromkeys(kinds, 3)
    rows = published_for("fashioniq")
    print_tables([aspects_table("R@10", "all", figures, counts, True, rows)])
    out = capsys.readouterr().out
    for value in ("24.39", "31.35", "32.43", "FTI4CIR"):
        assert value in out
    assert "LinCIR" not in out, "it has no figures by kind"


def test_all_output_goes_through_the_module_that_escapes() -> None:
    """No command prints by itself, so none can send a file name to the terminal unescaped."""
    packages = (fti_qdrant, fti_ingest, fti_training)
    sources = [path for one in packages for path in Path(one.__path__[0]).rglob("*.py")]
    assert len(sources) > 100
    calls = [
        f"{path.name}: {ast.unparse(node.func)}"
        for path in sources
        if path.name != "user_text.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "click.echo", "click.secho", "sys.stdout.write")
    ]
    assert calls == []


def test_a_dry_run_prints_names_of_files_as_they_are(tmp_path: Path) -> None:
    pictures = tmp_path / "p"
    pictures.mkdir()
    (pictures / "bad\x1b[2J\n[b].jpg").write_bytes(b"no picture")
    asked = ["run", str(pictures), "--gallery", str(tmp_path / "g\x07"), "--model", "mini"]
    done = CliRunner().invoke(fti_ingest.cli.main.main, [*asked, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert r"/p/bad\x1b[2J\n[b].jpg: it is not" in done.output
    assert "\x1b" not in done.output


def test_json_can_be_printed_whatever_a_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"uri": os.fsdecode(b"caf\xe9.jpg"), "name": "é", "path": Path("a")})
    assert capsys.readouterr().out == '{"uri": "caf\\udce9.jpg", "name": "é", "path": "a"}\n'


def test_json_holds_no_control_characters_and_the_same_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"a\x1b[2J": "\x9b31m\x7f", "turned": "\u202e", "lines": "one\ntwo\u2028three"}
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert printable(out.rstrip("\n")) == out.rstrip("\n")


def test_log_lines_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(logging.WARNING)
    logging.getLogger("fti_qdrant").warning("cannot read %s", "a\x1b[2Jb\nc.jpg")
    assert capsys.readouterr().err == "WARNING: cannot read a\\x1b[2Jb\\nc.jpg\n"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no pseudo-words; use composer='sum', or ingest", "use --composer sum, or ingest"),
        ("needs an inverter; open the gallery with inverter=...", "with --inverter ..."),
        ("URLs are off; allow them with allow_urls=True", "allow them with --allow-urls"),
        ("'composer='sum'.jpg': no such file", "'composer='sum'.jpg': no such file"),
        ("'x  y.jpg' [/b]\n  is a\tfile", r"Error: 'x  y.jpg' [/b] is a\tfile"),
    ],
)
def test_an_error_is_printed_for_a_command_line(message: str, shown: str) -> None:
    @click.command()
    @one_line_errors
    def command() -> None:
        raise BadQuery(message)

    done = CliRunner().invoke(command, env={"FTI_DEBUG": None})
    assert done.exit_code == 2
    assert done.stderr.endswith(f"{shown}\n")


def test_an_old_spelling_works_and_is_not_shown() -> None:
    @click.command()
    @click.option("--license", cls=RenamedOption, once=["--licence"], help="Of the weights.")
    def command(license: str) -> None:
        click.echo(license)

    assert CliRunner().invoke(command, ["--licence", "MIT"]).output == "MIT\n"
    shown = CliRunner().invoke(command, ["--help"]).output
    assert "--license" in shown
    assert "--licence" not in shown
