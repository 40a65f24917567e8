"""Which route answers a request."""

from .api import ROUTES


def find(method: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    """The route's row, and the ids in the path. Every path is /v1/{things}[/{id}[/{verb}[/{id}]]], so no patterns
    are needed. A word after the things, such as `search`, is looked up first, and is an id otherwise."""
    exact = f"{method} {path}"
    if exact in ROUTES:
        return exact, ()
    match path.split("/"):
        case ["", "v1", things, id] if id:
            operation = f"{method} /v1/{things}/{{id}}"
        case ["", "v1", things, id, verb] if id:
            operation = f"{method} /v1/{things}/{{id}}/{verb}"
        case ["", "v1", things, id, verb, inner] if id and inner:
            operation = f"{method} /v1/{things}/{{id}}/{verb}/{{id}}"
            return (operation, (id, inner)) if operation in ROUTES else None
        case _:
            return None
    return (operation, (id,)) if operation in ROUTES else None
