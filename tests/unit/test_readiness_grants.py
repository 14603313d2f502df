"""Rights of MySQL's logins as the server lists them."""

import pytest

from bench.readiness import grants


@pytest.mark.parametrize(
    ("place", "database", "expected"),
    [
        ("`mlflow`.*", "mlflow", True),
        ("mlflow.*", "mlflow", True),
        ("`mlflow`.*", "mlflow2", False),
        ("`mlflow%`.*", "mlflow_prod", True),
        ("`ml%`.*", "other", False),
        ("`mlflow_prod`.*", "mlflow-prod", True),
        (r"`mlflow\_prod`.*", "mlflow_prod", True),
        (r"`mlflow\_prod`.*", "mlflow-prod", False),
        (r"`mlflow\_%`.*", "mlflow_prod", True),
        (r"`mlflow\_%`.*", "mlflowprod", False),
        (r"`a\%b`.*", "a%b", True),
        (r"`a\%b`.*", "acb", False),
        ("`a.b`.*", "a.b", True),
        ("`a``b`.*", "a`b", True),
        ("`mlflow`.`runs`", "mlflow", False),
        ("PROCEDURE `mlflow`.`p`", "mlflow", False),
    ],
)
def test_where_a_right_holds(place: str, database: str, expected: bool) -> None:
    assert grants.covers(place, database) is expected


def test_names_are_no_patterns_with_partial_revokes() -> None:
    assert not grants.covers("`mlflow%`.*", "mlflow_prod", literal=True)
    assert grants.covers(r"`mlflow\_prod`.*", "mlflow_prod", literal=True)


def test_rights_and_roles() -> None:
    lines = [
        "GRANT USAGE ON *.* TO `u`@`%`",
        "GRANT SELECT, INSERT ON `ml%`.* TO `u`@`%`",
        "GRANT ALTER ON `other`.* TO `u`@`%`",
        "GRANT UPDATE ON `a b`.* TO `u`@`%`",
        "GRANT `reader`@`%`,`writer`@`%` TO `u`@`%`",
    ]
    found = grants.rights(lines, "mlflow")
    assert found.here == {"SELECT", "INSERT"}
    assert found.everywhere == {"USAGE"}
    assert not found.may_grant
    assert found.roles == ("reader@%", "writer@%")
    assert grants.rights(lines, "a b").here == {"UPDATE"}
    assert grants.rights(["GRANT ALL PRIVILEGES ON *.* TO `r`@`%` WITH GRANT OPTION"], "x").may_grant
