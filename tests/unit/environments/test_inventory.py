"""What is read out of an image's files, whoever wrote them."""

import pytest

from ds01spawner.environments.inventory import debian, describes, folders, named


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.4\nSummary: x\n", ("numpy", "1.26.4")),
        (b"name: A.b-c_d\r\nversion: 2.5.1+cu124\r\n", ("A.b-c_d", "2.5.1+cu124")),
        (b"Name: a\nVersion: 1\n\nName: body\nVersion: 2\n", ("a", "1")),
        (b"Name: first\nName: second\nVersion: 1\n", ("first", "1")),
        (b"\nName: late\nVersion: 1\n", ("", "")),
        (b"Name: a\n", ("", "")),
        (b"Name: -r /etc/passwd\nVersion: 1\n", ("", "")),
        (b"Name: a\nVersion: 1 --index-url=x\n", ("", "")),
        (b"Name: " + b"a" * 5000 + b"\nVersion: 1\n", ("", "")),
        (b"Name: a\nVersion: 1\x1b[31m\n", ("", "")),
        (b"\xff\xfe" * 1000, ("", "")),
        (b"", ("", "")),
    ],
)
def test_names_and_versions(head, expected):
    assert named(head) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("six-1.16.0.dist-info/METADATA", True),
        ("six.egg-info/PKG-INFO", True),
        ("six-1.egg-info", True),
        ("six-1.16.0.dist-info/RECORD", False),
        ("pkg/_vendor/six-1.16.0.dist-info/METADATA", False),
        ("METADATA", False),
        ("", False),
    ],
)
def test_which_files_describe_a_package(path, expected):
    assert describes(path) is expected


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        ("/opt/venv/bin/python3", ["/opt/venv/lib/python3.11/site-packages"]),
        ("/opt/conda/bin/python", ["/opt/conda/lib/python3.11/site-packages"]),
        ("/usr/local/bin/python3", ["/usr/local/lib/python3.11/site-packages"]),
        ("/usr/bin/python3", ["/usr/local/lib/python3.11/dist-packages", "/usr/lib/python3/dist-packages"]),
    ],
)
def test_where_packages_are(python, expected):
    assert folders(python, "3.11") == expected


def test_what_debian_has():
    status = (
        "Package: git\nStatus: install ok installed\nVersion: 1:2.39.5-0\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: odd name\nStatus: install ok installed\nVersion: 1\n\n"
        "Package: libc6\nStatus: hold ok installed\nDescription: x\n Version: 9\nVersion: 2.36-9+deb12u10\n"
    )
    assert debian(status) == ["git=1:2.39.5-0", "libc6=2.36-9+deb12u10"]
    assert debian("Package: x\n" * 100_000) == []
