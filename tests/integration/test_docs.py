# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: man pages have the commands' options, the README's commands exist, links lead somewhere."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KISTL_BUILD", ROOT / "build"))
MAN = ROOT / "man"
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "HACKING.md", "SCOPE.md"]
# A page for a group lists its commands; those have the options.
GROUPS = {"builder", "container", "image", "network", "system", "volume"}


def help_of(program, *words):
    return subprocess.run([BUILD / program, *words, "--help"], capture_output=True, text=True, check=True).stdout


def help_options(text):
    """--name of each line that describes an option."""
    return set(re.findall(r"^ {2,}(?:-\w, )?(--[a-z][a-z0-9-]*)", text, re.MULTILINE))


def page_options(text):
    """--name of each *-x*, *--name* that begins a paragraph of the section."""
    names = set()
    for line in text.partition("# OPTIONS")[2].partition("\n# ")[0].splitlines():
        if line.startswith("*-"):
            names.update(re.findall(r"\*(--[a-z][a-z0-9-]*)\*", line))
    return names


def commands(*group):
    """Names that a --help lists."""
    return re.findall(r"^  ([a-z][a-z-]*)  +[A-Z]", help_of("kistl", *group), re.MULTILINE)


def pages():
    return sorted(p.name.removesuffix(".1.scd").removeprefix("kistl-") for p in MAN.glob("kistl-*.1.scd"))


@pytest.mark.parametrize("command", [p for p in pages() if p not in GROUPS | {"compose", "create"}])
def test_page_has_the_commands_options(command):
    page = page_options((MAN / f"kistl-{command}.1.scd").read_text())
    assert page - {"--help"} == help_options(help_of("kistl", command)) - {"--help"}


def test_create_has_options_of_run():
    """Its page refers to run's."""
    assert help_options(help_of("kistl", "create")) <= page_options((MAN / "kistl-run.1.scd").read_text())


def test_every_command_has_a_page():
    missing = set(commands()) - set(pages())
    assert not missing


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_group_page_names_its_commands(group):
    text = (MAN / f"kistl-{group}.1.scd").read_text()
    assert [c for c in commands(group) if not re.search(rf"\b{c}\b", text)] == []


def test_kistld_page_has_its_options():
    page = page_options((MAN / "kistld.8.scd").read_text())
    assert page == help_options(help_of("kistld"))


def test_pages_are_built():
    text = (MAN / "meson.build").read_text()
    for path in MAN.glob("*.scd"):
        assert f"'{path.name.removesuffix('.scd')}'" in text, path.name


def test_readme_opens_with_the_two_commands():
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make hello", "make check"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = set(re.findall(r"(?:^|[`\s])make ([a-z][a-z-]*)", "\n".join(
        re.findall(r"```sh\n.*?```|`[^`\n]+`", (ROOT / name).read_text(), re.DOTALL)), re.MULTILINE))
    assert said <= targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name):
    text = (ROOT / name).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:src|tools|tests|man|bench|dist|proto)/[\w./-]+)`", text)
    paths += ["src/" + p for p in re.findall(r"`((?:base|loop|oci|rpc|http|store|task|network|image|engine|api|daemon|"
                                             r"worker|shim|cli)/[\w./-]+\.[ch])`", text)]
    assert [p for p in links + paths if "NAME" not in p and not (ROOT / p).exists()] == []


def test_commands_in_the_readme_exist():
    known = set(commands()) | GROUPS
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        for command in re.findall(r"(?:^|&& |\| )kistl ([a-z]+)", block, re.MULTILINE):
            assert command in known


def test_architecture_is_short():
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 300


def test_every_library_has_its_reason():
    """HACKING.md names each library that a meson.build asks for."""
    text = (ROOT / "HACKING.md").read_text()
    asked = set()
    for path in [ROOT / "meson.build", *ROOT.glob("proto/meson.build"), *ROOT.glob("src/**/meson.build")]:
        asked.update(re.findall(r"dependency\('([^']+)'", path.read_text()))
    names = {"libcrypto": "libcrypto", "libnghttp2": "nghttp2", "libisal": "isa-l", "libzstd": "zstd", "sqlite3": "SQLite",
             "libprotobuf-c": "protobuf-c", "libpcre2-8": "pcre2", "libuv": "libuv"}
    assert [n for n in asked - {"threads"} if names.get(n, n) not in text] == []
