"""What a new project can begin with: the shapes that are taken, and the site's own rules."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ds01spawner.cli import build_app
from ds01spawner.core.errors import Refused
from ds01spawner.policy.options import from_form, parse_options, salvage
from ds01spawner.policy.sources import GitSource, Rules, TemplateSource, is_branch, parse_source
from ds01spawner.workspace.gitwords import last_word, lines, progress, reason

GOOD = [
    ("", None),
    ("https://github.com/a/b", GitSource("https://github.com/a/b")),
    ("https://github.com/a/b.git#week-2", GitSource("https://github.com/a/b.git", "week-2")),
    (
        "https://git.example.org:8443/~ada/b#v1.0/x",
        GitSource("https://git.example.org:8443/~ada/b", "v1.0/x"),
    ),
    ("http://10.0.0.1/x", GitSource("http://10.0.0.1/x")),
    ("https://[2001:db8::1]/x", GitSource("https://[2001:db8::1]/x")),
    ("https://intranet/@scope/x%20y", GitSource("https://intranet/@scope/x%20y")),
    ("template:data-science", TemplateSource("data-science")),
]


@pytest.mark.parametrize(("text", "source"), GOOD)
def test_what_is_taken(text, source):
    assert parse_source(text) == source
    if source:
        assert str(source) == text


REFUSED = [
    ("-x", "https://example.org"),
    ("--upload-pack=id", "https://example.org"),
    ("ext::sh -c id", "spaces or characters"),
    ("file:///etc", "https://example.org"),
    ("git://example.org/x", "https://example.org"),
    ("/srv/x", "https://example.org"),
    ("HTTPS://example.org/x", "https://example.org"),
    ("git@github.com:a/b.git", "SSH key"),
    ("ssh://git@github.com/a/b", "SSH key"),
    ("https://ada:secret@example.org/x", "user name or password"),
    ("https://token@example.org/x", "user name or password"),
    ("https://", "no host"),
    ("https:///x", "no host"),
    ("https://-x/y", "no host"),
    ("https://a..b/y", "no host"),
    ("https://example.org:0/x", "no host"),
    ("https://example.org:99999/x", "cannot be read"),
    ("https://[::1/x", "cannot be read"),
    ("https://example.org", "no repository"),
    ("https://example.org//", "no repository"),
    ("https://example.org/x%0ay", "no repository"),
    ("https://example.org/x%zz", "no repository"),
    ("https://example.org/x?token=1", "question mark"),
    ("https://example.org/x#", "branch or tag"),
    ("https://example.org/x#-f", "branch or tag"),
    ("https://example.org/x#a..b", "branch or tag"),
    ("https://example.org/x y", "spaces or characters"),
    ("https://example.org/x\n", "spaces or characters"),
    ("https://example.org\\@evil.org/x", "spaces or characters"),
    ("https://exämple.org/x", "spaces or characters"),
    ("https://example.org/" + "x" * 500, "longer than 500"),
    ("template:", "template is named"),
    ("template:../x", "template is named"),
    ("template:a..b", "template is named"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_is_refused_says_what_is_allowed(text, words):
    with pytest.raises(Refused) as refused:
        parse_options({"project_source": text})
    assert words in refused.value.refusal.limit
    assert refused.value.refusal.status == 400
    assert "secret" not in refused.value.refusal.sentence


@given(st.text() | st.text("https:/.#@-[]%\\ \n\x00\u202eab1", min_size=1).map("https://".__add__))
def test_whatever_is_taken_is_one_plain_argument(text):
    try:
        source = parse_source(text)
    except ValueError:
        return
    if isinstance(source, GitSource):
        assert source.scheme in ("https", "http")
        assert source.host
        for part in (source.url, source.branch):
            assert not part.startswith("-")
            assert part.isascii()
            assert part.isprintable()
            assert " " not in part


@pytest.mark.parametrize("name", ["main", "week-2", "v1.0", "feature/x", "a@b", "1"])
def test_branches(name):
    assert is_branch(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a..b",
        "a/",
        "a.lock",
        "a.lock/b",
        "a.",
        "a//b",
        "a@{0}",
        "a b",
        "a~1",
        "ä",
        "a" * 201,
        "a/.b",
    ],
)
def test_what_is_no_branch(name):
    assert not is_branch(name)


RULES = [
    (Rules(), "https://example.org/x", None),
    (Rules(), "http://example.org/x", "source-scheme"),
    (Rules(schemes=("https", "http")), "http://example.org/x", None),
    (Rules(schemes=()), "https://example.org/x", "source-scheme"),
    (Rules(hosts=("github.com",)), "https://GitHub.com/x", None),
    (Rules(hosts=("github.com",)), "https://github.com.evil.org/x", "source-host"),
    (Rules(hosts=("*.example.org",)), "https://git.example.org/x", None),
    (Rules(hosts=("*.example.org",)), "https://example.org/x", "source-host"),
    (Rules(hosts=("*.example.org",)), "https://evilexample.org/x", "source-host"),
    (Rules(templates=("a",)), "template:a", None),
    (Rules(templates=("a",)), "template:b", "template-unknown"),
]


@pytest.mark.parametrize(("rules", "text", "code"), RULES)
def test_the_sites_rules(rules, text, code):
    refusal = rules.refusal(parse_source(text))
    assert (refusal and refusal.code) == code


FORMS = [
    ({"project_start": [""], "project_source": [""]}, {}),
    ({"project_start": ["git"], "project_source": ["https://h/x"]}, {"project_source": "https://h/x"}),
    ({"project_start": [""], "project_source": ["https://h/x"]}, {"project_source": "https://h/x"}),
    ({"project_start": ["template:a"], "project_source": [""]}, {"project_source": "template:a"}),
    ({"project_start": ["template:a"]}, {"project_source": "template:a"}),
    ({"again": ["project=p&project_source=https%3A%2F%2Fh%2Fx%23b"]}, {"project": "p", "project_source": "https://h/x#b"}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "raw"), FORMS)
def test_forms(form, raw):
    assert from_form(form) == raw


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"project_start": ["template:a"], "project_source": ["https://h/x"]}, "not both"),
        ({"project_start": ["git"]}, "Give the address"),
    ],
)
def test_a_form_that_contradicts_itself_is_refused(form, words):
    with pytest.raises(Refused, match=words):
        parse_options(from_form(form))


def test_what_was_typed_in_vain_stays_with_the_choices_that_can():
    raw = {
        "project": "My Thesis",
        "project_source": "git@h:x",
        "gpu": "1g.10gb",
        "evil": "x",
        "lifetime": "soon",
    }
    options, typed = salvage(raw)
    assert options.gpu == "1g.10gb"
    assert typed == {"project": "My Thesis", "project_source": "git@h:x"}
    assert salvage(None) == salvage({}) == (None, {})


SCALARS = st.none() | st.booleans() | st.integers() | st.text()


@given(
    st.dictionaries(st.sampled_from(["project", "project_source", "gpu", "x"]), SCALARS | st.lists(SCALARS))
)
def test_anything_can_be_salvaged(raw):
    options, typed = salvage(raw)
    assert set(typed) <= {"project", "project_source"}
    if options is not None:
        assert parse_options(options.stored())


# --- what git says ----------------------------------------------------------------------------------

CLONING = (
    "Cloning into '/workspace'...\nremote: Counting objects: 5\n"
    "Receiving objects:  10% (1/9)\rReceiving objects:  45% (4/9)\r"
)
SAID = [
    ("", ("", 0.0)),
    ("Cloning into '/workspace'...\n", ("", 0.0)),
    (CLONING, ("Receiving objects:  45% (4/9)", 0.37)),
    ("Resolving deltas: 100% (3/3), done.\n", ("Resolving deltas: 100% (3/3), done.", 0.9)),
    ("Receiving objects: 999% \x1b[31m<b>\x00", ("Receiving objects: 999% <b>", 0.7)),
]


@pytest.mark.parametrize(("output", "answer"), SAID)
def test_progress(output, answer):
    text, fraction = progress(output)
    assert (text, round(fraction, 3)) == answer


WHY = [
    ("fatal: repository 'https://h/x/' not found", "no such repository, or it is private"),
    ("fatal: could not read Username for 'https://h': terminal prompts disabled", "private"),
    ("fatal: unable to access 'x': The requested URL returned error: 403", "private"),
    ("fatal: Remote branch week-9 not found in upstream origin", "no such branch or tag"),
    ("fatal: unable to access 'x': Could not resolve host: h", "its host is not known here"),
    ("fatal: unable to access 'x': SSL certificate problem: self-signed", "a safe connection"),
    ("fatal: unable to access 'x': Failed to connect to h port 443", "does not answer"),
    ("fatal: write error: No space left on device", "no space left"),
    ("fatal: transport 'http' not allowed", "a kind that is not allowed"),
    ("something else", "git could not fetch it"),
]


@pytest.mark.parametrize(("output", "words"), WHY)
def test_reasons(output, words):
    why, do = reason(output)
    assert words in why
    assert do


def test_the_last_word_is_gits_error_and_plain_text():
    output = "remote: \x1b[1mhello\x1b[0m\nfatal: not\u202e found\nremote: bye\n"
    assert last_word(output) == "fatal: not found"
    assert last_word("one\ntwo\n") == "two"
    assert last_word("") == ""


@given(st.text())
def test_nothing_a_server_says_gets_through_but_plain_lines(output):
    for line in lines(output):
        assert len(line) <= 160
        assert not set(line) & set("\x00\x1b\r\n\x7f\u202e")


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture
def ds01(tmp_path, monkeypatch):
    (tmp_path / "workspaces").mkdir()
    template = tmp_path / "templates" / "python"
    template.mkdir(parents=True)
    (template / "README.md").write_text("# A Python project\n")
    settings = {
        "workspace_root": str(tmp_path / "workspaces"),
        "project_templates": str(tmp_path / "templates"),
        "identity": "4242:4242",
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))

    def run(*arguments):
        result = CliRunner().invoke(build_app(), ["project", *arguments, "--json"])
        return result.exit_code, json.loads(result.stdout)

    return run


def test_a_project_from_a_template(ds01, tmp_path):
    assert ds01("templates") == (0, [{"template": "python", "description": "A Python project"}])
    code, said = ds01("init", "thesis", "--user", "alice", "--template", "python")
    assert (code, said["created"], said["source"]) == (0, True, "template:python")
    folder = tmp_path / "workspaces" / "alice" / "thesis"
    assert (folder / "README.md").stat().st_uid == 4242
    code, said = ds01("init", "thesis", "--user", "alice", "--template", "python")
    assert code == 1
    assert "has files already" in said["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--template", "none"), "no such template"),
        (("--template", "../x"), "a template is named"),
        (("--git", "file:///etc"), "allowed are an address"),
        (("--git", "http://example.org/x"), "begin with https://"),
        (("--git", "https://example.org/x", "--template", "python"), "not both"),
    ],
)
def test_what_the_command_refuses(ds01, tmp_path, arguments, words):
    code, said = ds01("init", "thesis", "--user", "alice", *arguments)
    assert code == 1
    assert words in said["message"]
    assert not (tmp_path / "workspaces" / "alice" / "thesis").exists()
