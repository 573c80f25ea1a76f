"""What a checkpoint says of tables is done to no other files."""

from dsonas_mx.runs.session import check_tables

import pytest


def test_tables_are_csv_files_of_the_run():
    check_tables({})
    check_tables({"metrics.csv": 120, "lambdas.csv": 0})


@pytest.mark.parametrize(
    "tables, message",
    [
        ({"args.json": 3}, "'args.json' is not the name of a table"),
        ({"model.params": 0}, "'model.params' is not the name of a table"),
        ({"../up.csv": 3}, "is not the name of a table"),
        ({"": 3}, "is not the name of a table"),
        ({"a.csv\n": 3}, "is not the name of a table"),
        ({"metrics.csv": -1}, "the bytes of metrics.csv must be at least 0"),
        ({"metrics.csv": "all"}, "the bytes of metrics.csv must be a whole number"),
        (["metrics.csv"], "must be an object"),
        (None, "must be an object"),
    ],
)
def test_others_are_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        check_tables(tables)
