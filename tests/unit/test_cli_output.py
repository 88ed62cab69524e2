"""What people wrote cannot work a terminal: names and reasons are text."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from ds01spawner.cli import AREAS, build_app, common

NASTY = "\x1b[2J\x1b]0;owned\x07 fine\x9b31m\r"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain text, Ünïcode 🎓\n\tand lines", "plain text, Ünïcode 🎓\n\tand lines"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\rb\x00c\x7f\x9b", "a\\x0db\\x00c\\x7f\\x9b"),
    ],
)
def test_control_characters_become_visible(given, shown):
    assert common.printable(given) == shown


def test_tables_and_sentences_let_none_through(capsys):
    common.table(["reason"], [[NASTY], [None]])
    common.console.print(NASTY, markup=False)
    common.problems.print(NASTY, markup=False)
    written = "".join(capsys.readouterr())
    assert "fine" in written
    assert "n/a" in written
    assert not set(written) & set("\x1b\x07\x9b\r")


def test_the_table_of_commands_is_what_each_area_registers():
    for area, commands in AREAS.items():
        app = typer.Typer()
        import_module(f"ds01spawner.cli.{area}").register(app)
        names = [c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands]
        assert (*names, *(g.name for g in app.registered_groups)) == commands, area


@pytest.mark.parametrize("words", [("gpus", "--help"), ("project", "init", "--help"), ("why", "--help")])
def test_one_area_alone_answers_as_all_of_them_do(words):
    alone = CliRunner().invoke(build_app(words[0]), list(words))
    together = CliRunner().invoke(build_app(), list(words))
    assert (alone.exit_code, alone.output) == (together.exit_code, together.output)
    assert alone.exit_code == 0


@pytest.mark.parametrize("command", [c for commands in AREAS.values() for c in commands])
def test_no_command_imports_the_hub(command):
    """A second of processor for nothing: JupyterHub and its database are the hub's and the service's."""
    code = f"import sys; from ds01spawner.cli import build_app; build_app({command!r});"
    code += "print(sorted({'jupyterhub', 'dockerspawner', 'alembic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
