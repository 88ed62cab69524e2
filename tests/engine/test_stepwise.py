"""Dockerfiles carried out step by step: as the engine's own builder does it, and locked up."""

import hashlib
import io
import os
import tarfile
import threading
import time
import uuid

import docker
import pytest

from ds01spawner.engines.docker import runstep
from ds01spawner.engines.docker.image_store import Images
from ds01spawner.engines.docker.runstep import Sandbox
from ds01spawner.environments.builder import stepwise
from ds01spawner.environments.builder.dockerscan import read
from ds01spawner.environments.builder.stepwise import IGNORED, StepFailed, StepwiseBuild, Stopped
from ds01spawner.workspace.projectfiles import ProjectFiles

BUSYBOX = "ds01/test-busybox:latest"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def images():
    images = Images()
    yield images
    images.close()


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "p"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "sub" / "b.txt").write_text("b")
    (folder / "sub" / "deep" / "c.txt").write_text("c")
    (folder / "link").symlink_to("a.txt")
    with tarfile.open(folder / "packed.tar", "w") as tar:
        info = tarfile.TarInfo("from-tar")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"tar"))
    return ProjectFiles(tmp_path, ("p",), os.getuid(), os.getgid())


class Builder:
    """Builds with a scope of its own, so that no test finds another one's steps."""

    def __init__(self, images, project):
        self.images, self.project = images, project
        self.scope = uuid.uuid4().hex
        self.said = []
        self.name = uuid.uuid4().hex[:8]

    @property
    def left(self):
        """Containers of this test's builds."""
        return self.images.client().containers(all=True, filters={"name": f"{runstep.NAME}{self.name}"})

    def __call__(self, text, sandbox=None, scope="", buildargs=None, labels=None, shared=0, during=None):
        self.said.clear()
        build = StepwiseBuild(
            self.images, self.name, sandbox or Sandbox(memory=2**28, pids=200, network="none"),
            300, self.said.append, scope=scope or self.scope, shared_steps=shared,
        )  # fmt: skip
        if during:
            threading.Thread(target=during, args=(build, self.said), daemon=True).start()
        context = self.project.pack(2**24, {".dockerignore": f"packed.tar2{IGNORED}.dockerignore".encode()})
        with context.file:
            return build.run(read(text), context, buildargs, labels)

    @property
    def log(self):
        return "".join(self.said)


@pytest.fixture
def build(images, project):
    return Builder(images, project)


def classic(project, text, **options):
    """The same by the engine's own builder."""
    extra = {"Dockerfile": text.encode(), ".dockerignore": b"Dockerfile\n.dockerignore\n"}
    client = docker.APIClient(version="auto", timeout=300)
    context = project.pack(2**24, extra)
    with context.file:
        image, said = "", []
        for message in client.build(
            fileobj=context.file, custom_context=True, decode=True, network_mode="none", rm=True,
            forcerm=True, nocache=True, **options,
        ):  # fmt: skip
            said.append(str(message))
            image = message.get("aux", {}).get("ID", image)
    client.close()
    assert image, said[-3:]
    return image


CONFIG = (
    *("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Labels", "Shell", "ExposedPorts", "Volumes"),
    *("OnBuild", "StopSignal", "Healthcheck", "ArgsEscaped"),
)


def config_of(images, image):
    data = images.client().inspect_image(image)
    return {key: data["Config"].get(key) or None for key in CONFIG}


def files_of(images, image):
    """Name, kind, owner, mode and content of everything in an image."""
    client = images.client()
    made = client.create_container(image, entrypoint=["x"])["Id"]
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join(client.export(made)))) as tar:
            return {
                m.name: (
                    m.type, m.uid, m.gid, oct(m.mode), m.linkname,
                    hashlib.sha256(tar.extractfile(m).read()).hexdigest() if m.isreg() else "",
                )
                for m in tar
                if not m.name.startswith(("dev", "proc", "sys", ".dockerenv"))
                and m.name not in ("etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/mtab", "etc")
            }  # fmt: skip
    finally:
        client.remove_container(made, v=True)


SAME = {
    "plain": f'FROM {BUSYBOX}\nRUN echo hi > /hi\nCOPY a.txt /x/\nRUN cat /x/a.txt > /y\nCMD ["sh"]\n',
    "from alone": f"FROM {BUSYBOX}\n",
    "configuration": f"""FROM {BUSYBOX}
MAINTAINER me
LABEL one=1 two="2 3"
EXPOSE 80 90/udp
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s CMD true
VOLUME /data
ENTRYPOINT ["echo", "x"]
CMD ["y"]
RUN mkdir -p /data && echo lost > /data/x && echo kept > /kept
ENV A=1 B="two words" C=$A
WORKDIR /w/x
WORKDIR y
USER 1234:5678
RUN echo "$A $B $C $(pwd) $(id -u):$(id -g)" > /tmp/out
""",
    "arguments": f"""ARG OUT=outer
ARG UNUSED
FROM {BUSYBOX}
ARG OUT
ARG A=1
ARG B="$A-$OUT" NOVALUE
ENV E=$B
RUN echo "$OUT $A $B $E ${{NOVALUE-unset}}" > /one
ARG A=2
ENV A=env
ARG A=3
RUN echo "$A" > /two
COPY ${{B:+a.txt}} /three
RUN env | grep -v -e HOSTNAME -e '^_=' -e SHLVL | sort > /four
""",
    "shell and exec": f"""FROM {BUSYBOX}
RUN ["/bin/sh", "-c", "echo exec > /exec"]
SHELL ["/bin/sh", "-ec"]
RUN false || true; echo "$0" > /zero
RUN echo 'single "double" $HOME' \\
    "and more" > /quotes
ENTRYPOINT echo shell
""",
    "stages": f"""FROM {BUSYBOX} AS one
ARG X=stage
RUN mkdir /made && echo $X > /made/one
ENV FROMONE=yes
FROM one AS two
RUN echo ${{X:-gone}} $FROMONE > /made/two
FROM scratch
COPY --from=0 /bin /bin
COPY --from=two --chown=5:6 /made /copied
COPY --from={BUSYBOX} /bin/busybox /again
RUN ["/bin/busybox", "touch", "/touched"]
""",
    "files": f"""FROM {BUSYBOX}
COPY . /all
ADD packed.tar /unpacked/
COPY --chown=7:8 sub /sub
COPY ["a.txt", "run.sh", "/two/"]
WORKDIR /sub
COPY sub/deep/*.txt ./
RUN rm -r /all/sub && /two/run.sh > /ran
COPY a.txt /again
""",
    "triggers": f"""FROM {BUSYBOX} AS base
ONBUILD COPY a.txt /trigger
ONBUILD RUN cp /trigger /ran
ONBUILD ENV T=1
FROM base
RUN test "$T" = 1
""",
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_as_by_the_builder_of_the_engine(build, images, project, name):
    ours, theirs = build(SAME[name]), classic(project, SAME[name])
    assert config_of(images, ours) == config_of(images, theirs)
    assert files_of(images, ours) == files_of(images, theirs)
    count = len(read(SAME[name]))
    for number, step in enumerate(read(SAME[name]), 1):
        if step.word not in ("ARG",):
            assert f"Step {number}/{count} : {step.text[:20]}" in build.log


def test_arguments_and_labels_from_outside(build, images, project):
    text = f"FROM {BUSYBOX}\nARG A=default\nARG B\nRUN echo $A $B > /x\nENV C=$B\n"
    options = {"buildargs": {"A": "given", "B": "two words"}, "labels": {"l": "v w"}}
    ours, theirs = build(text, **options), classic(project, text, **options)
    assert config_of(images, ours) == config_of(images, theirs)
    assert files_of(images, ours) == files_of(images, theirs)


def value(images, image, path):
    client = images.client()
    made = client.create_container(image, entrypoint=["x"])["Id"]
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join(client.get_archive(made, path)[0]))) as tar:
            return tar.extractfile(tar.next()).read()
    finally:
        client.remove_container(made)


def test_a_command_is_locked_up(build, images):
    """No capability to make devices or raw packets, no new privileges, few processes, no network."""
    made = build(f"""FROM {BUSYBOX}
RUN grep -e CapEff -e CapBnd -e NoNewPrivs -e Seccomp: /proc/self/status > /status
RUN mknod /d c 1 3 2>/dev/null && echo made > /result || echo refused > /result
RUN cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max > /pids 2>/dev/null; true
RUN touch /x && chown 5:6 /x && chmod 4755 /x
RUN cat /proc/net/dev | wc -l > /net
""")
    status = dict(line.split(":\t") for line in value(images, made, "/status").decode().splitlines())
    bits = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7}
    allowed = sum(1 << bit for bit in (*bits.values(), 31))  # and SETFCAP
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == allowed
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert value(images, made, "/result") == b"refused\n"
    assert value(images, made, "/pids").split() == [b"200"]
    assert value(images, made, "/net").strip() == b"3"  # two lines of heading and lo


def test_a_fork_bomb_and_a_memory_bomb_end_the_step(build):
    with pytest.raises(StepFailed) as failed:
        build(
            f"FROM {BUSYBOX}\nRUN i=0; while [ $i -lt 300 ]; do sleep 100 & i=$((i+1)); done; echo all\n",
            Sandbox(pids=50, network="none"),
        )
    assert failed.value.number == 2
    assert "all" not in build.said
    with pytest.raises(StepFailed, match="non-zero code: 137"):
        build(f"FROM {BUSYBOX}\nRUN x=xxxxxxxx; while true; do x=$x$x; done\n", Sandbox(memory=2**26))


def test_a_sparse_file_never_fills_the_disk(build, images):
    """It costs nothing in the container, and all that it seems to be in an image."""
    with pytest.raises(StepFailed, match=r"left 900 GiB of files, more than the 1 GiB") as failed:
        build(f"FROM {BUSYBOX}\nRUN truncate -s 900G /x\nRUN true\n", Sandbox(layer=2**30))
    assert failed.value.number == 2
    assert build(f"FROM {BUSYBOX}\nRUN truncate -s 9M /x\n", Sandbox(layer=2**30))


def test_what_fails_is_named_with_its_step(build, images):
    with pytest.raises(StepFailed, match="non-zero code: 3") as failed:
        build(f"FROM {BUSYBOX}\nARG A=1\nRUN echo fine\nENV X=1\nRUN echo bad; exit 3\nRUN echo never\n")
    assert failed.value.number == 5
    assert "Step 5/6 : RUN echo bad; exit 3" in build.log
    assert "bad\n" in build.log
    assert "never" not in build.log
    with pytest.raises(StepFailed, match=r"no such file|not found") as failed:
        build(f"FROM {BUSYBOX}\nRUN true\nENV A=1\nCOPY missing /x\n")
    assert failed.value.number == 4
    with pytest.raises(StepFailed, match="nothing to run"):
        build("FROM scratch\nRUN true\n")
    assert not build.left


def test_nothing_is_shared_between_owners(build, images):
    """The same random key by two people is two keys; one's own is kept, and what is ours is shared."""
    text = f"FROM {BUSYBOX}\nRUN head -c 16 /dev/urandom > /key\nCOPY a.txt /a\n"
    one, again = build(text), build(text)
    assert one == again
    assert " ---> Using cache" in build.log
    other = build(text, scope=uuid.uuid4().hex)
    assert value(images, one, "/key") != value(images, other, "/key")
    mark = uuid.uuid4().hex
    layer = f"FROM {BUSYBOX}\nRUN echo {mark}; head -c 16 /dev/urandom > /layer\n"
    layer += "RUN head -c 9 /dev/urandom > /own\n"
    first = build(layer, scope=uuid.uuid4().hex, shared=2)
    second = build(layer, scope=uuid.uuid4().hex, shared=2)
    assert value(images, first, "/layer") == value(images, second, "/layer")
    assert value(images, first, "/own") != value(images, second, "/own")


def test_a_label_or_a_history_cannot_pretend_to_be_the_cache(build, images):
    base = images.inspect(BUSYBOX).id
    argv = ["/bin/sh", "-c", f"echo {build.scope}"]
    note = runstep.cache_note(base, argv, f"of {build.scope}", "none")
    build(f'FROM {BUSYBOX}\nMAINTAINER {note}\nLABEL comment="{note}"\nRUN true # {note}\n')
    assert not runstep.cached(images.client(), base, note)


def test_a_build_is_stopped_at_once(build, images):
    def stop(running, said):
        while "begun\n" not in "".join(said):
            time.sleep(0.05)
        running.stop()

    for command in ("echo begun; sleep 500", "echo begun; exec >/dev/null 2>&1; sleep 500"):
        begun = time.monotonic()
        with pytest.raises(Stopped):
            build(f"FROM {BUSYBOX}\nRUN {command}\n", during=stop)
        assert time.monotonic() - begun < 60
    assert not build.left


def test_no_file_of_the_project_takes_the_place_of_the_dockerfile(build, images, project):
    (project.root / "p" / stepwise.DOCKERFILE).write_text("FROM scratch\nENV OTHER=1\n")
    made = build(f"FROM {BUSYBOX}\nENV A=1\nCOPY . /all\n")
    assert "A=1" in config_of(images, made)["Env"]
    assert f"all/{stepwise.DOCKERFILE}" not in files_of(images, made)


def test_what_a_crash_left_is_removed(images, hub_id):
    client = images.client()
    names = [f"{runstep.NAME}b-{hub_id}-3", f"{runstep.NAME}other-{hub_id}-3"]
    for name in names:
        client.create_container(BUSYBOX, ["true"], name=name, labels={"ds01.hub": hub_id})
    assert runstep.clear_leftovers(client, lambda build: build == f"b-{hub_id}") == 1
    client.remove_container(names[1])
