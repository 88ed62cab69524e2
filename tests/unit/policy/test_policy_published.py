"""What is made from the code and published: the schema, the page of refusals, and the demo policy."""

from __future__ import annotations

import ast
import json
from datetime import datetime, timezone
from pathlib import Path

import jsonschema
import pytest
import yaml

from ds01spawner import messages
from ds01spawner.core.errors import Refusal
from ds01spawner.messages.docs import refusals_page
from ds01spawner.policy import builtin_policy, load_policy, parse_policy
from ds01spawner.policy.lint import lint
from ds01spawner.policy.model import PolicyFile, Section
from ds01spawner.policy.published import json_schema, reference_page, schema_text

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
NO_REFUSALS = {"__init__.py", "__main__.py", "base.py", "docs.py", "notes.py"}
DEMO = ROOT / "hub_config" / "policy.yaml"


def test_the_published_reference_is_current():
    again = "make it anew: python -m ds01spawner.policy docs/reference"
    assert (REFERENCE / "policy.schema.json").read_text() == schema_text(), again
    assert (REFERENCE / "policy.md").read_text() == reference_page(), again


def _models(model=PolicyFile):
    found = {model}
    for kind in Section.__subclasses__():
        found |= {kind, *kind.__subclasses__()}
    return found


def test_every_key_of_the_file_says_what_it_means():
    silent = [
        f"{model.__name__}.{name}"
        for model in _models()
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert not silent


def test_the_schemas_own_defaults_are_valid():
    schema = json_schema()
    for name, model in schema["$defs"].items():
        for key, field in model.get("properties", {}).items():
            if "default" in field:
                check = {**field, "$defs": schema["$defs"]}
                assert not list(jsonschema.Draft202012Validator(check).iter_errors(field["default"])), (
                    name,
                    key,
                )


def test_the_schema_takes_the_demo_and_refuses_what_the_reader_refuses():
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert not list(validator.iter_errors(yaml.safe_load(DEMO.read_text())))
    for bad in (
        {"version": 2},
        {"version": 1, "session": {}},
        {"version": 1, "defaults": {"session": {"memory": 8}}},
        {"version": 1, "defaults": {"session": {"lifetime": "48"}}},
        {"version": 1, "groups": {"a": {"gpu": {"profiles": ["1g"]}}}},
    ):
        assert list(validator.iter_errors(bad)), bad


def test_the_demo_policy_has_its_people():
    policy = load_policy(DEMO)
    members = {g.name: g.members for g in policy.groups}
    assert {"alice", "bob"} <= members["students"]
    assert any(g.hub_admins for g in policy.groups)


def test_the_page_of_refusals_is_current():
    again = "make it anew: python -m ds01spawner.messages docs/admins/refusals.md"
    assert (ROOT / "docs" / "admins" / "refusals.md").read_text() == refusals_page(), again


def test_no_module_but_those_of_messages_words_a_refusal():
    package = Path(messages.__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        if file.parent.name == "messages" or "singleuser" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id == "Refusal"), f"{file}:{node.lineno}"


def test_every_refusal_has_an_example():
    folder = Path(messages.__file__).parent
    functions = {
        node.name
        for file in sorted({f.name for f in folder.glob("*.py")} - NO_REFUSALS)
        for node in ast.parse((folder / file).read_text()).body
        if isinstance(node, ast.FunctionDef) and node.returns and ast.unparse(node.returns) == "Refusal"
    }
    assert functions == set(messages.EXAMPLES)
    # Beside them are the words of what is told but refuses nothing.
    assert functions == set(messages.__all__) - {"EXAMPLES", "NOT_RETIRED", "retiring"}


@pytest.mark.parametrize("name", messages.EXAMPLES)
def test_a_refusal_has_its_parts(name):
    refusal = messages.EXAMPLES[name]()
    assert isinstance(refusal, Refusal)
    assert refusal.asked
    assert refusal.limit
    assert refusal.do
    assert 400 <= refusal.status <= 599 or (refusal.status == 202 and refusal.ticket)
    assert refusal.code.replace("-", "").isalnum()
    for part in (refusal.asked, refusal.used, refusal.limit, refusal.when, refusal.do):
        assert not part.endswith(".")
        assert "\n" not in part
    assert json.loads(json.dumps(refusal.as_dict()))["message"] == refusal.sentence


def test_codes_are_few_and_each_means_one_thing():
    codes = [make().code for make in messages.EXAMPLES.values()]
    assert len(codes) == len(set(codes))


def test_the_reference_names_every_value():
    page = reference_page()
    assert not [key for key in builtin_policy().builtin if f"| `{key}` |" not in page]


def test_the_example_on_the_admins_page_is_a_policy():
    page = (ROOT / "docs" / "admins" / "policy.md").read_text()
    example = page.split("```yaml\n", 1)[1].split("```", 1)[0]
    policy = parse_policy(example, Path("policy.yaml"))
    assert [g.name for g in policy.groups] == ["students", "nlp-2026"]
    assert lint(policy, datetime(2026, 3, 1, tzinfo=timezone.utc)) == ()
