"""Fixtures that test the champions in each kind of store."""

from tests.store.conftest import store as store
