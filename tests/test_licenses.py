"""docs/licenses.md tells the license of everything that is installed with the service."""

import re

from packaging.utils import canonicalize_name
from test_locks import EVERYTHING, PRODUCT, ROOT, asked_of, pins_of

LISTED = set(re.findall(r"^\| `?([A-Za-z0-9-]+)`? \|", (ROOT / "docs" / "licenses.md").read_text(), re.MULTILINE))


def test_every_package_of_the_product_is_listed():
    assert set(pins_of((ROOT / PRODUCT).read_text())) - LISTED == set()


def test_everything_that_pyproject_asks_for_is_listed():
    assert {canonicalize_name(one.name) for one in asked_of(EVERYTHING)} - LISTED == set()
