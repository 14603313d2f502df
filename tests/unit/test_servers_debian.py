"""Reading the host's package sources and apt's answers."""

from pathlib import Path

import pytest

from bench.servers import debian

DEB822 = """\
Types: deb
# a comment between fields
URIs: mirror+file:/etc/apt/mirrors/main.list
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://mirror.example/other
Suites: bookworm
Components: main
"""
THIRD_PARTY = """\
Types: deb
URIs: https://third.example/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/third.gpg

"""
OLD_STYLE = """\
# deb http://mirror.example/disabled bookworm main
deb [arch=amd64,arm64 signed-by=/k/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main contrib # end
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
"""
SIMULATED = """\
Reading package lists...
Inst gcc-16-base (16.2.0-3 Debian:testing [amd64])
Inst libc6 (2.43-7 Debian:testing [amd64]) []
Inst libssl3t64 [3.5.0-1] (3.6.5-1 Debian:testing [amd64])
Inst tzdata (2026f-1 Debian:testing [all])
Conf libc6 (2.43-7 Debian:testing [amd64])
"""


def test_disabled_stanzas_and_comments_are_left_out():
    stanzas = debian.parse_stanzas(DEB822)
    assert [stanza["Suites"] for stanza in stanzas] == ["bookworm bookworm-updates", "bookworm-security"]
    assert stanzas[0]["URIs"] == "mirror+file:/etc/apt/mirrors/main.list"


def test_a_key_written_in_place_keeps_its_lines():
    text = "Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\n"
    text += "Signed-By:\n -----BEGIN PGP\n .\n x: y\n"
    (stanza,) = debian.parse_stanzas(text)
    assert stanza["Signed-By"] == "\n -----BEGIN PGP\n .\n x: y"
    again = debian.parse_stanzas(debian.Archive("debian", "sid", stanza).sources("forky"))
    assert again[0]["Signed-By"] == stanza["Signed-By"]
    assert again[0]["Suites"] == "forky"


def test_one_line_sources_become_fields():
    first, second = debian.parse_one_line(OLD_STYLE)
    assert first == {
        "Types": "deb",
        "URIs": "http://mirror.example/debian",
        "Suites": "bookworm",
        "Components": "main contrib",
        "Architectures": "amd64 arm64",
        "Signed-By": "/k/debian-archive-keyring.gpg",
    }
    assert second["Suites"] == "bookworm-updates"


def test_the_main_archive_is_found_among_others():
    stanzas = debian.parse_stanzas(THIRD_PARTY + DEB822)
    found = debian.main_stanza(stanzas, "debian", "bookworm")
    assert found is not None
    assert found["URIs"] == "mirror+file:/etc/apt/mirrors/main.list"
    assert debian.main_stanza(debian.parse_stanzas(THIRD_PARTY), "debian", "bookworm") is None


def test_another_suite_of_the_same_archive():
    stanza = debian.main_stanza(debian.parse_stanzas(DEB822), "debian", "bookworm")
    assert stanza is not None
    sources = debian.Archive("debian", "bookworm", stanza).sources("sid")
    assert "Suites: sid\n" in sources
    assert "Components: main\n" in sources
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n" in sources


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("ID=debian\nVERSION_CODENAME=bookworm\n", ("debian", "bookworm")),
        ('ID="fedora"\n', None),
        ("ID=ubuntu\nVERSION_CODENAME=noble\n", None),  # its own sources are not among these
    ],
)
def test_the_host_decides_which_archive(tmp_path: Path, monkeypatch, release, expected):
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(DEB822)
    (tmp_path / "os-release").write_text(release)
    archive = debian.host_archive(tmp_path, tmp_path / "os-release")
    assert (archive and (archive.distribution, archive.codename)) == expected


def test_inst_lines():
    assert debian.parse_inst(SIMULATED) == [
        debian.Package("gcc-16-base", "16.2.0-3"),
        debian.Package("libc6", "2.43-7"),
        debian.Package("libssl3t64", "3.6.5-1"),
        debian.Package("tzdata", "2026f-1"),
    ]
