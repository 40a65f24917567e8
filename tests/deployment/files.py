"""docker-compose.yml and the Dockerfile as values, so that tests can hold them to what they promise."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
STANDIN_PROJECT = tomllib.loads((ROOT / "stripe_standin" / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]


def read(text: str) -> dict[str, Any]:
    """A compose file with its variables at their defaults."""
    return YAML(typ="safe", pure=True).load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


FILE = read(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("billing-reference:")}
LASTING = {name: one for name, one in SERVICES.items() if one["restart"] != "no"}


def refused(text: str, at: Path) -> str:
    """What the Compose specification's own schema says against this file; nothing if it is one."""
    at.write_text(text)
    program = Path(sys.executable).with_name("check-jsonschema")
    asked = [program, "--builtin-schema", "vendor.compose-spec", "--output-format", "json", at]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=200)
    return "" if ran.returncode == 0 else json.dumps(json.loads(ran.stdout)["errors"])


def secrets_of(service: dict[str, Any]) -> dict[str, str]:
    """By the name under which the service finds it: the name under which it is declared."""
    long = [{"source": one, "target": one} if isinstance(one, str) else one for one in service.get("secrets", [])]
    return {one["target"]: one["source"] for one in long}


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60}[unit]


@dataclass
class Stage:
    name: str
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    """Keyword and arguments of each instruction."""

    def all(self, keyword: str) -> list[str]:
        return [arguments for word, arguments in self.lines if word == keyword]


def stages(text: str = DOCKERFILE) -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in plain.replace("\\\n", " ").splitlines():
        keyword, _, arguments = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = arguments.partition(" AS ")
            found[name] = Stage(name, base)
        elif keyword and found:
            found[list(found)[-1]].lines.append((keyword, arguments))
    return found


def inherited(name: str, keyword: str, text: str = DOCKERFILE) -> list[str]:
    """The arguments of every such instruction that is in force in this stage, the oldest first."""
    every, chain = stages(text), []
    while name in every:
        chain.append(every[name])
        name = every[name].base
    return [arguments for stage in reversed(chain) for arguments in stage.all(keyword)]


def environment(target: str) -> dict[str, str]:
    pairs = [pair for line in inherited(target, "ENV") for pair in shlex.split(line)]
    return dict(pair.split("=", 1) for pair in pairs)


def entrypoint(target: str) -> list[str]:
    return list(json.loads(inherited(target, "ENTRYPOINT")[-1]))
