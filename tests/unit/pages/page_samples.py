"""A realistic launch page, and a hostile one, for tests, benchmark and screenshots."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ds01spawner.core.errors import Refusal
from ds01spawner.pages.inputs import EnvironmentInfo, ProjectInfo, QueueHint, Quota, Rules
from ds01spawner.pages.launch_inputs import LaunchInputs
from ds01spawner.placement.devices import DeviceStatus
from ds01spawner.policy.options import LaunchOptions

NOW = datetime(2026, 3, 3, 14, 5, tzinfo=timezone.utc)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></textarea><svg onload=alert(1)>",
    "\u202egnp.exe\u202c \u05e9\u05dc\u05d5\u05dd",
    "🧪🚀👩‍🔬" * 5,
    "x" * 200,
    "{{ 7 * 7 }} {% raw %} ${7*7}",
)


def device(uuid, profile="1g.10gb", state="free", parent="GPU-1", gib=9.5, slices=1, holder="", reason=""):
    """A `DeviceStatus` with short defaults."""
    return DeviceStatus(
        uuid=uuid,
        parent=parent,
        name="NVIDIA A100-SXM4-80GB",
        profile=profile,
        memory_mib=int(gib * 1024),
        equivalents=slices / 7,
        state=state,
        holder=holder,
        reason=reason,
    )


DEVICES = (
    device("GPU-0", "full", "held", parent=None, gib=79.6, slices=7, holder="bob/vision", reason="in use"),
    device("MIG-1", holder="alice/thesis", state="held"),
    device("MIG-2"),
    device("MIG-3", state="held", holder="carol/nlp"),
    device("MIG-4", "2g.20gb", gib=19.5, slices=2),
    device("MIG-5", "2g.20gb", "reserved", gib=19.5, slices=2, reason="NLP S26, from 14:00"),
    device("MIG-6", "3g.40gb", "held", "GPU-2", 39.5, 3, "dave/llm"),
    device("MIG-7", "3g.40gb", "drained", "GPU-2", 39.5, 3, reason="fan replaced on Friday"),
)


def refuse(options: LaunchOptions) -> Refusal | None:
    """Full GPUs are not for students; 3g is busy; everything else starts."""
    if options.gpu == "full":
        return Refusal(
            code="gpu-not-allowed",
            asked="a whole GPU was asked for",
            limit="whole GPUs are not allowed",
            rule="group students",
            do="choose a slice",
        )
    if options.gpu == "3g.40gb":
        return Refusal(
            code="gpus-full",
            asked="1 × 3g.40gb was asked for",
            limit="of 2 such devices none is free: 1 in use by sessions, 1 out of service",
            when="one becomes free as soon as a session that holds it is retired",
            do="choose another GPU",
            status=503,
        )
    return None


def sample(**changes) -> LaunchInputs:
    """The page of a student in the middle of a term."""
    values = {
        "person": "alice",
        "now": NOW,
        "refuse": refuse,
        "statuses": DEVICES,
        "quotas": (
            Quota("GPU at once", 1 / 7, 1.0, "GPU", "group students"),
            Quota("Sessions", 1, 3, "sessions", "group students"),
            Quota("GPU-hours", 12, 40, "h", "course nlp-s26", "falls again on Monday"),
            Quota("Disk", 31e9, 50e9, "", "site default", is_bytes=True),
        ),
        "projects": (
            ProjectInfo("thesis", 12_400_000_000, NOW - timedelta(days=1), "Master's thesis on slices"),
            ProjectInfo("nlp-course", 3_100_000_000, NOW - timedelta(days=5)),
            ProjectInfo("scratch", 240_000_000, NOW - timedelta(days=41)),
        ),
        "environments": (
            EnvironmentInfo(
                "course/nlp-s26:4",
                "NLP S26, week 4",
                "course",
                "Transformers, datasets and this week's notebooks.",
                8_100_000_000,
                "12.4",
                NOW - timedelta(days=2),
                "ok",
            ),
            EnvironmentInfo(
                "mine/alice/torch", "my-torch", "mine", "", None, "", None, "building", "62 % built"
            ),
            EnvironmentInfo(
                "shared/vision",
                "Vision lab",
                "shared",
                "OpenCV, timm.",
                9_900_000_000,
                "12.2",
                preflight="ok",
                warnings=("needs a newer driver for CUDA graphs",),
            ),
            EnvironmentInfo(
                "pytorch-2.6",
                "PyTorch 2.6",
                "lab",
                "Python 3.11, PyTorch, JupyterLab 4.",
                7_300_000_000,
                "12.4",
                NOW - timedelta(days=20),
                "ok",
            ),
            EnvironmentInfo(
                "cpu",
                "Python, no CUDA",
                "lab",
                "Small and quick: pandas, scikit-learn.",
                900_000_000,
                preflight="ok",
                present=False,
            ),
            EnvironmentInfo(
                "old",
                "TensorFlow 1.15",
                "lab",
                "For the archive.",
                4_000_000_000,
                "10.0",
                preflight="failed",
                reason="it has no JupyterHub of a version this hub can talk to",
            ),
            EnvironmentInfo(
                "llm",
                "Large models",
                "lab",
                reason="your limits allow these environments: pytorch-2.6, cpu",
                ask_url="/services/ds01/requests?key=images.use",
            ),
        ),
        "default_environment": "pytorch-2.6",
        "rules": Rules(
            timedelta(hours=1), "group students", timedelta(minutes=12), timedelta(hours=24), "site default"
        ),
        "last": LaunchOptions(project="thesis", environment="pytorch-2.6", gpu="1g.10gb"),
        "can_wait": True,
        "ask": lambda refusal: (
            "/services/ds01/requests?key=gpu.full_gpu" if refusal.code == "gpu-not-allowed" else ""
        ),
        "queue": {"3g.40gb": QueueHint(2, "about 25 min (rough)")},
        "activity": {"MIG-3": "idle 40 min", "MIG-1": "active"},
        "updated": "2026-03-03T14:05:00+00:00",
        "service_url": "/services/ds01/",
        "fragment_key": "key",
    }
    return LaunchInputs(**(values | changes))


def hostile() -> LaunchInputs:
    """The same page with every text that comes from people or machines made hostile."""
    return sample(
        person=HOSTILE[0],
        statuses=tuple(
            DeviceStatus(f"MIG-{i}{h}", "GPU-1", h, h, 9728, 1 / 7, "held", f"{h}/{h}", h)
            for i, h in enumerate(HOSTILE)
        ),
        show_holders=True,
        quotas=tuple(Quota(h, 1, 2, h, h, h) for h in HOSTILE),
        projects=tuple(ProjectInfo(h, 5, NOW, h) for h in HOSTILE),
        environments=tuple(
            EnvironmentInfo(h, h, "mine", h, 1, h, NOW, "failed", h, warnings=(h,)) for h in HOSTILE
        ),
        rules=Rules(
            timedelta(hours=1),
            HOSTILE[0],
            None,
            timedelta(hours=2),
            HOSTILE[1],
            kept=HOSTILE,
            removed=HOSTILE,
        ),
        refuse=lambda o: Refusal(
            "gpus-full", HOSTILE[0], HOSTILE[1], HOSTILE[2], when=HOSTILE[3], rule=HOSTILE[4]
        ),
        queue={h: QueueHint(1, h) for h in HOSTILE},
        inventory_problem=HOSTILE[0],
        activity={f"MIG-{i}{h}": h for i, h in enumerate(HOSTILE)},
        service_url="/" + HOSTILE[1] + "/",
        fragment_key=HOSTILE[2],
        updated="2026-03-03T14:05:00+00:00",
    )
