"""The rules that keep builds from the machine: what they say, and that they are made once."""

from ds01spawner.engines.docker import buildnet


class Tables:
    """Plays iptables: chains with their rules, and what was called."""

    def __init__(self, *chains, broken=""):
        self.chains = {name: [] for name in ("INPUT", "FORWARD", *chains)}
        self.calls, self.broken = [], broken

    def __call__(self, command, given):
        self.calls.append(" ".join(command))
        if self.broken and self.broken in self.calls[-1]:
            return 4, "no permission"
        words = [w for w in command[1:] if w not in ("-w", "10")]
        if command[0].endswith("-restore"):
            return 0, ""
        if words[:2] == ["-n", "-L"]:
            return (0, "") if words[2] in self.chains else (1, "no chain")
        what, chain, *rule = words
        if what == "-C":
            return (0, "") if rule in self.chains[chain] else (1, "")
        if what == "-I":
            self.chains[chain].insert(0, rule[1:])
        if what == "-D":
            if chain not in self.chains or rule not in self.chains[chain]:
                return 1, ""
            self.chains[chain].remove(rule)
        return 0, ""


def test_the_rules():
    lines = buildnet.rules("ds01b-1", [3141, 3128, 3141]).splitlines()
    to_machine, through = buildnet.chains("ds01b-1")
    assert lines[:3] == ["*filter", f":{to_machine} - [0:0]", f":{through} - [0:0]"]
    assert [line for line in lines if line.startswith(f"-A {to_machine}")] == [
        f"-A {to_machine} -p udp --dport 53 -j RETURN",
        f"-A {to_machine} -p tcp --dport 53 -j RETURN",
        f"-A {to_machine} -p tcp --dport 3128 -j RETURN",
        f"-A {to_machine} -p tcp --dport 3141 -j RETURN",
        f"-A {to_machine} -j REJECT --reject-with icmp-admin-prohibited",
    ]
    assert f"-A {through} -d 169.254.0.0/16 -j REJECT" in lines
    assert f"-A {through} -o br-+ -j REJECT" in lines
    assert lines[-2:] == [f"-A {through} -j RETURN", "COMMIT"]
    assert "RETURN" not in buildnet.rules("ds01b-1", [80], ipv6=True)
    assert all(len(name) <= 28 for name in buildnet.chains("x"))


def test_they_are_put_in_once(monkeypatch):
    monkeypatch.setattr(buildnet.shutil, "which", lambda tool: f"/sbin/{tool}")
    tables = Tables("DOCKER-USER")
    assert buildnet.apply("b", [], tables) == ""
    assert buildnet.apply("b", [], tables) == ""
    to_machine, through = buildnet.chains("b")
    assert tables.chains["INPUT"] == [["-i", "b", "-j", to_machine]]
    assert tables.chains["DOCKER-USER"] == [["-i", "b", "-j", through]]
    assert tables.chains["FORWARD"] == []
    buildnet.withdraw("b", tables)
    assert not any(tables.chains.values())


def test_without_the_engines_chain_and_without_permission(monkeypatch):
    monkeypatch.setattr(buildnet.shutil, "which", lambda tool: f"/sbin/{tool}")
    tables = Tables()
    assert buildnet.apply("b", [], tables) == ""
    assert len(tables.chains["FORWARD"]) == 1
    assert "no permission" in buildnet.apply("b", [], Tables(broken="iptables-restore"))
    assert "no permission" in buildnet.apply("b", [], Tables(broken="-I INPUT"))


def test_names():
    assert buildnet.name_for("ds01") == "ds01-build"
    assert buildnet.name_for("host") == "ds01-build"
