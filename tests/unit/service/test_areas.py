"""Every module of handlers is served: a renamed one was left out unsaid, with its pages and its loops."""

from __future__ import annotations

from pkgutil import iter_modules

from ds01spawner.service import app, handlers


def test_every_module_of_handlers_is_served_and_each_served_one_is_there():
    assert sorted(app.MODULES) == sorted(module.name for module in iter_modules(handlers.__path__))
    assert len(app.modules()) == len(app.MODULES)
