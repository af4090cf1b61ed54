"""Fixtures with small data sets."""

from collections.abc import Callable

import pytest

from tests.support.data_set_files import DataSetFiles, mention


@pytest.fixture
def many_mentions(data_set: DataSetFiles) -> Callable[[int], DataSetFiles]:
    """Returns the data set with this number of valid mentions in the training world."""

    def make(count: int) -> DataSetFiles:
        lines = [mention("aster", number % 3) | {"mention_id": f"m{number:04}"} for number in range(count)]
        data_set.files["mentions/train.json"] = lines
        return data_set

    return make
