"""docs/licenses.md tells the license of everything that is installed with the service."""

import re

import pytest
from packaging.utils import canonicalize_name
from test_locks import EVERYTHING, PRODUCT, ROOT, asked_of, pins_of

LISTED = set(re.findall(r"^\| `?([A-Za-z0-9-]+)`? \|", (ROOT / "docs" / "licenses.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", sorted(pins_of((ROOT / PRODUCT).read_text())))
def test_every_package_of_the_product_is_listed(name):
    assert name in LISTED


@pytest.mark.parametrize("name", sorted(canonicalize_name(one.name) for one in asked_of(EVERYTHING)))
def test_everything_that_pyproject_asks_for_is_listed(name):
    assert name in LISTED
