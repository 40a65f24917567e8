"""Which class the SDK expects as the answer of a route: read from the generated source of its services.

Every method of a service has this form, which is the only place that connects a path and a class:

    return cast("Invoice", self._request("post", "/v1/invoices/{invoice}/finalize".format(...), ...))
"""

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import stripe
from sdk_schema import names_of

_METHOD = re.compile(r'cast\(\s*"([^"]+)",\s*self\._request\(\s*"(\w+)",\s*"([^"]+)"')
_PACKAGE = Path(stripe.__file__).parent


def class_answering(operation: str) -> Any:
    """The annotation of a 2xx answer to `POST /v1/invoices/{id}/finalize`; None for a route the SDK does not know."""
    found = _operations().get(_nameless(operation))
    if found is None:
        return None
    module, annotation = found
    import_module(module)
    return eval(annotation, names_of(module))  # noqa: S307 - text of the installed package


@cache
def _operations() -> dict[str, tuple[str, str]]:
    """For every operation: its module, and what it returns."""
    found = {}
    for file in sorted(_PACKAGE.glob("**/*_service.py")):
        module = ".".join(file.relative_to(_PACKAGE.parent).with_suffix("").parts)
        for annotation, verb, path in _METHOD.findall(file.read_text()):
            found[_nameless(f"{verb.upper()} {path}")] = module, annotation
    return found


def _nameless(operation: str) -> str:
    return re.sub("{.*?}", "{}", operation)
