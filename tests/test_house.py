"""The rooms of the package: no file imports, through others, itself."""

from __future__ import annotations

import grimp
import pytest


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of files that import each other: they can be read, tested and moved only together."""
    reached: dict[str, set[str]] = {}
    for start in imports:
        found, ahead = set(), [start]
        while ahead:
            for file in imports.get(ahead.pop(), set()) - found:
                found.add(file)
                ahead.append(file)
        reached[start] = found
    groups = {
        frozenset(other for other in reached[file] if file in reached[other])
        for file in imports
        if file in reached[file]
    }
    return [set(group) for group in groups]


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    graph = grimp.build_graph("saddlegan", cache_dir=None)
    return {file: graph.find_modules_directly_imported_by(file) for file in graph.modules}


def test_no_file_imports_itself_through_others(imports) -> None:
    assert circles(imports) == []


def test_a_circle_is_seen(imports) -> None:
    """Wrong on purpose: the core's results reaching up to a door that is made of them."""
    assert circles(imports | {"saddlegan.results": {"saddlegan.certify"}}) != []


def test_the_workbench_has_at_most_twelve_rooms(imports) -> None:
    rooms = {file for file in imports if file.rpartition(".")[0] == "saddlegan.workbench"}
    assert 8 <= len(rooms) <= 12, sorted(rooms)
