"""The published schemas are those of the models, and take what the models take."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

from ds01spawner.courses.schemas import schemas

ROOT = Path(__file__).parents[3]


def errors(name, text):
    every = schemas()
    registry = Registry().with_resources((n, Resource.from_contents(s)) for n, s in every.items())
    validator = jsonschema.Draft202012Validator(every[name], registry=registry)
    return [e.message for e in validator.iter_errors(yaml.safe_load(text))]


@pytest.mark.parametrize("name", sorted(schemas()))
def test_the_published_schema_is_current(name):
    published = json.loads((ROOT / "docs" / "reference" / name).read_text())
    assert published == json.loads(json.dumps(schemas()[name]))


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("recipe.schema.json", "base: lab\npip: [numpy]\n", True),
        ("recipe.schema.json", "pips: [numpy]\n", False),
        ("course.schema.json", "course: nlp\ntitle: x\nroster: a\nrecipe: {pip: [x]}\n", True),
        ("course.schema.json", "course: nlp\ntitle: x\nroster: [a]\nimage: x:1\n", True),
        ("course.schema.json", "course: nlp\ntitle: x\nroster: a\nrecipe: {pop: [x]}\n", False),
        ("course.schema.json", "course: nlp\n", False),
        ("environments.schema.json", (ROOT / "hub_config" / "environments.yaml").read_text(), True),
        ("environments.schema.json", "environments: {a: {img: x}}\n", False),
    ],
)
def test_what_the_schemas_take(name, text, valid):
    assert (errors(name, text) == []) is valid
