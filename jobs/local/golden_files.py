"""`python -m jobs.local.golden_files`: completes the files of the golden corpus (`make golden`).

A new file `NAME-VERSION.json` needs only examples: `{"facts": [{"form": "minimal", "fact": {...}}]}`. The rows of work
are added, and for a new file everything else. What was recorded before is never changed.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from jobs.road import golden
from jobs.road.contracts import contracts, named


def main(folder: Path = golden.FOLDER) -> int:
    """Exit status 1 if a file is about a contract that this version does not have, or that needs a higher `since`."""
    known = {named(contract): (operation, contract) for operation, contract in contracts()}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [example for example in content["facts"] if "work" not in example]
        if not missing:
            continue
        called = ":".join(path.stem.rsplit("-", 1))
        if called not in known:
            print(f"{path.name}: this version has no contract {called}", file=sys.stderr)
            return 1
        if "name" not in content:
            corpus = [each for each in golden.released(folder) if each.called != called]
            for finding in golden.comes_too_late(corpus, *known[called]):
                print(finding, file=sys.stderr)
                return 1
        made = golden.recorded(*known[called], [(example["form"], example["fact"]) for example in missing])
        for example, complete in zip(missing, made.facts, strict=True):
            example["work"] = complete["work"]
        content = asdict(made) | content
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(missing)} completed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
