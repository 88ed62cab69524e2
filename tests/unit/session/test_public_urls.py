"""Where browsers find the service, and what `configure` says of what cannot work."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from ds01spawner.core.errors import DS01Error
from ds01spawner.core.public_urls import origin_of, service_address
from ds01spawner.hub.configure import _public, _refuse_internal_ssl, _service_address


@pytest.mark.parametrize(
    ("host", "hook", "address"),
    [
        ("", None, "/x/services/ds01/"),
        ("https://hub.example.org", None, "https://ds01--service.hub.example.org/x/services/ds01/"),
        ("http://hub.localhost:8000", "idna", "http://ds01--service.hub.localhost:8000/x/services/ds01/"),
        ("https://a.org", lambda name, domain, kind: f"{kind}-{name}.{domain}", "https://service-ds01.a.org/x/services/ds01/"),
    ],
)  # fmt: skip
def test_the_services_address(host, hook, address):
    assert service_address("/x/services/ds01/", host, hook) == address


def test_an_origin_is_scheme_and_host():
    assert origin_of("https://a.org:8/x") == "https://a.org:8"
    assert origin_of("/x") == ""


def test_the_hubs_configuration_names_the_service_on_its_domain():
    c = Config()
    c.JupyterHub.base_url = "/x/"
    assert (_service_address(c.JupyterHub), _public(c.JupyterHub)) == ("/x/services/ds01/", {})
    c.JupyterHub.subdomain_host = "https://a.org"
    assert _public(c.JupyterHub) == {
        "DS01_PUBLIC_SERVICE": "https://ds01--service.a.org/x/services/ds01/",
        "DS01_PUBLIC_HUB": "https://a.org",
    }


def test_certificates_inside_are_refused_in_words():
    c = Config()
    _refuse_internal_ssl(c.JupyterHub)
    c.JupyterHub.internal_ssl = True
    with pytest.raises(DS01Error, match="internal_ssl is on"):
        _refuse_internal_ssl(c.JupyterHub)
