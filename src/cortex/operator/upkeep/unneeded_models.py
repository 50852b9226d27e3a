"""Which of the models that were fetched nothing needs."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cortex.fetching.stock import FetchedModel, ModelStock
from cortex.operator.models import models_of
from cortex.storage.ledger import Version


def unneeded_models(stock: ModelStock, versions: Iterable[Version], setups: Iterable[Path]) -> list[FetchedModel]:
    """Give all but what these versions would load now, and what processes were started with by their `setup.json`.

    Of each model that a version names, its content that was last asked for stays. May be called from any thread.
    """
    named = {(version.spec["predictor"]["type"], model.path) for version in versions for model in models_of(version)}
    fetched = sorted(stock.fetched(), key=lambda model: model.last_used_ns)
    latest = {(model.predictor_type, model.url): model.key for model in fetched}
    kept = {key for origin, key in latest.items() if origin in named}
    for setup in setups:
        kept |= _loaded_from(stock.root, setup)
    return [model for model in fetched if model.key not in kept]


def _loaded_from(root: Path, setup: Path) -> set[str]:
    """Give the keys of the models that a setup names; none where it is gone, or an earlier release has written it."""
    with suppress(FileNotFoundError, ValueError):
        models = json.loads(setup.read_bytes()).get("models", ())
        paths = [Path(model["path"]) for model in models]
        return {path.relative_to(root).parts[0] for path in paths if path.is_relative_to(root)}
    return set()
