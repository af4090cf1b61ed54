"""Marks and groups tests by the fixtures they take, so that no test needs to say it again.

A test that takes ``migrated_home`` or ``chromium`` gets the mark that ``make test`` leaves out. Tests that share an
expensive fixture get one ``xdist_group``, so that ``--dist loadgroup`` runs them on one worker and the fixture is made
once. All tests with an Airflow are one group, because even an idle Airflow takes CPU time, and two would slow each
other down. Workers take tests and groups in the order in which they were collected, so what takes longest comes first:
no worker is left with it alone at the end.
"""

from __future__ import annotations

import pytest

MARKS = {"migrated_home": pytest.mark.airflow, "chromium": pytest.mark.browser}
# Fixtures that start a server or run all stages. A test that takes several belongs to the first of them.
MADE_ONCE = ("migrated_home", "mlflow_server", "finished_run")

LONGEST = ("test_learning.py", "test_kills.py")  # single tests of a minute and more


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marks, and before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            for fixture in MARKS.keys() & set(item.fixturenames):
                item.add_marker(MARKS[fixture])
            if item.get_closest_marker("xdist_group") is None and (group := _group(item)) is not None:
                item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_turn)


def _group(item: pytest.Function) -> str | None:
    """A fixture of :data:`MADE_ONCE`, or the file of a test that takes a fixture of module scope."""
    for fixture in MADE_ONCE:
        if fixture in item.fixturenames:
            return fixture
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return item.nodeid.partition("::")[0] if any(found[-1].scope == "module" for found in definitions) else None


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("airflow"):  # the tests of a whole Airflow take minutes
        return 0
    group = item.get_closest_marker("xdist_group")
    first = MADE_ONCE.index(group.args[0]) if group and group.args[0] in MADE_ONCE else len(MADE_ONCE)
    return 1 if item.path.name in LONGEST else 1 + first
