"""What of a version its replicas are made of."""

import hashlib
import json

from cortex.storage.ledger import Version


def restart_key(version: Version) -> str:
    """Name what the replicas of a version are made of: those of another version with this key may go on as they are.

    How many there are, how they are reached and how they are replaced is not in it.
    """
    spec = version.spec
    content = json.dumps(
        [version.kind, spec["predictor"], spec["compute"], version.project_id], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]
