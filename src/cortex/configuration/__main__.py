"""Write the JSON Schema of cortex.yaml: `python -m cortex.configuration [FILE]`."""

import json
import sys
from pathlib import Path

from cortex.configuration.json_schema import json_schema


def schema_text() -> str:
    """Return the text of the schema's file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/cortex.schema.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(schema_text(), encoding="utf-8")
