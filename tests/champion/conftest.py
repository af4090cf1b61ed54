"""The champions are tested in each kind of store."""

from tests.store.conftest import store as store
