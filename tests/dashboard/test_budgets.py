"""The sizes of the built dashboard, with gzip: what a first screen loads, and every later chunk."""

import json

import pytest

from tests.dashboard.builder import builder

FIRST_SCREEN = 220_000
LATER_CHUNK = 90_000
ENTRY = "index.html"


@pytest.fixture(scope="module")
def manifest(installed, built):
    return json.loads((builder.DIST / ".vite/manifest.json").read_text())


def size(file):
    """Of the bytes that the gateway sends."""
    path = builder.DIST / file
    gzipped = path.with_name(f"{path.name}.gz")
    return (gzipped if gzipped.exists() else path).stat().st_size


def loaded_with(manifest, name, seen=None):
    """The files that a chunk needs before it runs."""
    seen = set() if seen is None else seen
    if name not in seen:
        seen.add(name)
        for other in manifest[name].get("imports", []):
            loaded_with(manifest, other, seen)
    return seen


def files_of(manifest, names):
    return {file for name in names for file in (manifest[name]["file"], *manifest[name].get("css", []))}


def test_each_first_screen_is_small(manifest):
    screens = [name for name in manifest if name.startswith("src/screens/")]
    sizes = {
        name: sum(map(size, files_of(manifest, loaded_with(manifest, ENTRY) | loaded_with(manifest, name))))
        for name in screens
    }
    print(sizes)

    assert len(screens) >= 5
    assert {name: bytes_ for name, bytes_ in sizes.items() if bytes_ > FIRST_SCREEN} == {}


def test_each_later_chunk_is_small(manifest):
    first = loaded_with(manifest, ENTRY)
    sizes = {name: size(one["file"]) for name, one in manifest.items() if name not in first}

    assert {name: bytes_ for name, bytes_ in sizes.items() if bytes_ > LATER_CHUNK} == {}


def test_every_file_has_its_hash_in_the_name(manifest):
    assert [one["file"] for one in manifest.values() if one["file"].rpartition(".")[0][-9] != "-"] == []
