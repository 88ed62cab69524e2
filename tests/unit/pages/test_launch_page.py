"""The launch page: what is chosen, greyed out and why."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs

import pytest
from bs4 import BeautifulSoup
from page_samples import DEVICES, NOW, refuse, sample

from ds01spawner.core.errors import Refusal
from ds01spawner.pages.inputs import Quota, Rules
from ds01spawner.pages.launch_page import launch_view, quota_line, rule_sentences
from ds01spawner.pages.render import render
from ds01spawner.policy.options import LaunchOptions, from_form, parse_options


def page(**changes):
    return BeautifulSoup(render("ds01/launch_form.html", view=launch_view(sample(**changes))), "html.parser")


def checked(soup, name):
    return [i["value"] for i in soup.select(f'input[name="{name}"][checked]')]


def test_every_choice_shows_availability_cost_and_reason():
    choices = {c.value: c for c in launch_view(sample()).compute}
    assert [(c.value, c.availability, c.cost, c.allowed, c.queueable) for c in choices.values()] == [
        ("none", "always available", "costs no GPU quota", True, False),
        ("1g.10gb", "1 of 3 free", "costs 0.14 of 1 GPU", True, False),
        ("2g.20gb", "1 of 2 free", "costs 0.29 of 1 GPU", True, False),
        ("3g.40gb", "0 of 2 free", "costs 0.43 of 1 GPU", False, True),
        ("full", "0 of 1 free", "costs 1 of 1 GPU", False, False),
    ]
    assert choices["full"].reason == "whole GPUs are not allowed (group students)"
    assert choices["3g.40gb"].queue == "queue: 2 people before you, about 25 min (rough)"


@pytest.mark.parametrize(
    ("last", "chosen", "expected"),
    [
        (None, None, ("thesis", "pytorch-2.6", "1g.10gb")),
        (LaunchOptions(project="nlp-course", environment="cpu"), None, ("nlp-course", "cpu", "none")),
        (
            LaunchOptions(project="thesis", environment="gone", gpu="full"),
            None,
            ("thesis", "pytorch-2.6", "1g.10gb"),
        ),
        (LaunchOptions(project="thesis", gpu="7g.80gb"), None, ("thesis", "pytorch-2.6", "1g.10gb")),
        (None, LaunchOptions(project="scratch", environment="cpu", gpu="full"), ("scratch", "cpu", "full")),
        (
            None,
            LaunchOptions(project="thesis", environment="cpu", gpu="3g.40gb"),
            ("thesis", "cpu", "3g.40gb"),
        ),
    ],
    ids=["first-time", "remembered", "remembered-refused", "remembered-gone", "chosen-refused", "lost-race"],
)
def test_preselection(last, chosen, expected):
    soup = page(last=last, chosen=chosen)
    assert tuple(checked(soup, n) for n in ("project", "environment", "gpu")) == tuple([e] for e in expected)


def test_without_gpus_the_cpu_choice_stands_alone():
    view = launch_view(sample(statuses=(), inventory_problem="The GPU driver does not answer."))
    assert [(c.value, c.checked) for c in view.compute] == [("none", True)]
    assert view.strip.summary == "The GPU driver does not answer."
    assert not view.nothing_fits


def test_when_nothing_fits_the_page_says_so_and_offers_cpu_and_queue():
    def full(options):
        if options.gpu == "none":
            return None
        return Refusal(
            "gpus-full", "a", "none is free", "wait", when="due to become free at 15:00", status=503
        )

    view = launch_view(sample(refuse=full))
    assert view.nothing_fits
    text = page(refuse=full).get_text(" ", strip=True)
    assert "No GPU you may use is free right now. Likely next: 1g.10gb due to become free at 15:00" in text
    assert "wait in the queue" in text


def test_a_refused_choice_says_why_and_keeps_everything():
    soup = page(
        chosen=LaunchOptions(project="brand-new", environment="cpu", gpu="3g.40gb", wait=True, lifetime=7200)
    )
    assert "Your choices are kept below" in soup.select_one("#ds01-refusal").text
    assert soup.select_one('input[name="project_new"]')["value"] == "brand-new"
    assert checked(soup, "environment") == ["cpu"]
    assert soup.select_one('input[name="wait"]').has_attr("checked")
    assert soup.select_one("option[selected]")["value"] == "7200"


def test_unavailable_options_stay_focusable_and_carry_their_reason():
    soup = page()
    assert soup.select("input[disabled], button[disabled]") == []
    full = soup.select_one('input[value="full"]')
    assert full["aria-disabled"] == "true"
    assert "whole GPUs are not allowed (group students)" in full.find_parent("label").text
    building = soup.select_one('input[value="mine/alice/torch"]')
    assert building["aria-disabled"] == "true"
    assert "62 % built" in building.find_parent("label").text


def test_the_form_posts_what_the_options_model_reads():
    soup = page(max_gpu_count=4)
    names = {e["name"] for e in soup.select("input[name], select[name]")}
    assert names == {"project", "project_new", "environment", "gpu", "gpu_count", "wait", "lifetime"}
    form = {n: checked(soup, n) for n in ("project", "environment", "gpu")}
    form |= {"gpu_count": ["1"], "project_new": [""], "lifetime": [""]}
    assert parse_options(from_form(form)).summary() == "thesis · pytorch-2.6 · 1g.10gb"


def test_start_again_submits_the_last_choice_whatever_else_is_filled():
    last = LaunchOptions(project="thesis", environment="pytorch-2.6", gpu="1g.10gb", gpu_count=2, wait=True)
    button = page(last=last).select_one('button[name="again"]')
    form = {"again": [button["value"]], "project": ["scratch"], "gpu": ["full"], "project_new": ["x"]}
    assert parse_options(from_form(form)).model_dump(exclude={"profile"}) == last.model_dump(
        exclude={"profile"}
    )


def test_permalink_names_the_preselected_choice():
    link = page().select_one("a[data-ds01-share]")["href"]
    path, _, query = link.partition("?")
    assert path == "/services/ds01/start"
    assert parse_qs(query) == {"project": ["thesis"], "environment": ["pytorch-2.6"], "gpu": ["1g.10gb"]}


def test_without_a_service_nothing_live_is_loaded():
    soup = page(service_url="")
    assert soup.select("[hx-get], a[data-ds01-share]") == []


def test_holders_are_named_only_where_the_site_says_so():
    def details(show):
        view = launch_view(sample(show_holders=show))
        return {s.uuid: s.detail for c in view.strip.cards for s in c.segments}

    assert details(False)["MIG-3"] == "idle 40 min"
    assert details(True)["MIG-3"] == "carol/nlp, idle 40 min"
    assert details(False)["MIG-1"] == "thesis, active"


def test_strip_cuts_each_card_by_slices_and_names_every_state():
    view = launch_view(sample())
    assert [(c.title, c.summary, [s.slices for s in c.segments]) for c in view.strip.cards] == [
        ("GPU 0", "0 of 1 free", [7]),
        ("GPU 1", "2 of 5 free", [1, 1, 1, 2, 2]),
        ("GPU 2", "0 of 2 free", [3, 3]),
    ]
    labels = {s.uuid: s.label for c in view.strip.cards for s in c.segments}
    assert [labels[d.uuid] for d in DEVICES] == [
        "in use", "yours", "free", "in use", "free", "reserved", "in use", "out of service",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("quota", "value", "source", "percent"),
    [
        (Quota("GPU", 3 / 7, 1.0, "GPU", "group students"), "0.43 of 1 GPU", "group students", 43),
        (Quota("Disk", 31 * 2**30, 50 * 2**30, is_bytes=True), "31 GiB of 50 GiB", "", 62),
        (Quota("GPU-hours", None, 40, "h", "x", "resets Monday"), "n/a of 40 h", "x, resets Monday", None),
        (Quota("Sessions", 2, None, "sessions"), "2 sessions, no limit", "", None),
        (Quota("GPU", 0, 0, "GPU"), "0 of 0 GPU", "", None),
    ],
)
def test_quota_lines(quota, value, source, percent):
    line = quota_line(quota)
    assert (line.value, line.source, line.percent) == (value, source, percent)


def test_rules_name_their_source():
    rules = Rules(
        timedelta(minutes=90), "group students", timedelta(minutes=10), timedelta(hours=48), "course nlp"
    )
    assert rule_sentences(rules) == (
        "Retired after 1 h 30 min without activity, after a warning 10 min ahead (group students). "
        "Running code, GPU work and terminals count as activity.",
        "Ends 2 days after its start (course nlp).",
    )
    assert rule_sentences(Rules()) == ("It runs until you retire it.",)


def test_the_same_function_decides_for_page_and_start():
    asked = []

    def recording(options):
        asked.append((options.gpu, options.environment))
        return refuse(options)

    view = launch_view(sample(refuse=recording, now=NOW))
    assert {gpu for gpu, _ in asked} >= {c.value for c in view.compute}
    assert ("none", "old") not in asked, "an environment that failed its check needs no second opinion"


REFUSED = Refusal(
    "gpus-full", "1 × 3g.40gb was asked for", "somebody was faster", "choose another", status=503
)
QUOTA = Refusal("gpu-not-allowed", "a whole GPU was asked for", "you may use slices", "choose a slice")


@pytest.mark.parametrize(
    ("gpu", "told", "sentence", "by_now", "ask"),
    [
        ("3g.40gb", REFUSED, "Somebody was faster", False, ""),
        ("1g.10gb", REFUSED, "Somebody was faster", True, ""),
        ("full", QUOTA, "You may use slices", False, "/services/ds01/requests?key=gpu.full_gpu"),
        # Nothing was started: the form says what it would say to these choices.
        ("full", None, "Whole GPUs are not allowed", False, "/services/ds01/requests?key=gpu.full_gpu"),
    ],
)
def test_a_refused_start_comes_back_with_choices_and_reason(gpu, told, sentence, by_now, ask):
    chosen = LaunchOptions(project="brand-new", environment="cpu", gpu=gpu)
    soup = page(chosen=chosen, refused=told)
    alert = soup.select_one("#ds01-refusal")
    assert sentence in alert.text
    assert ("By now it would start" in alert.text) is by_now
    assert [a["href"] for a in alert.select("a")] == ([ask] if ask else [])
    assert soup.select_one('input[name="gpu"][checked]')["value"] == gpu
    assert soup.select_one('input[name="environment"][checked]')["value"] == "cpu"
    assert soup.select_one('input[name="project_new"]')["value"] == "brand-new"


def test_greyed_reasons_lead_to_asking_only_where_that_helps():
    soup = page()
    links = {a.find_parent("label").input["value"]: a["href"] for a in soup.select("label.ds01-choice a")}
    assert links == {
        "full": "/services/ds01/requests?key=gpu.full_gpu",
        "llm": "/services/ds01/requests?key=images.use",
    }
    again = page(last=LaunchOptions(project="thesis", environment="cpu", gpu="full")).select_one(
        ".ds01-again a"
    )
    assert again["href"] == "/services/ds01/requests?key=gpu.full_gpu"


def test_an_environment_that_the_start_would_refuse_leads_to_asking_too():
    def refuse_cpu(options):
        if options.environment != "cpu":
            return None
        return Refusal("environment-not-allowed", "it was asked for", "your policy does not let you", "ask")

    soup = page(refuse=refuse_cpu, ask=lambda refusal: f"/requests?about={refusal.code}")
    label = soup.select_one('input[value="cpu"]').find_parent("label")
    assert "your policy does not let you" in label.text
    assert label.a["href"] == "/requests?about=environment-not-allowed"
