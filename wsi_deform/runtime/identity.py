"""Which model is which: a hash of what its masks depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_deform.errors import ModelError
from wsi_deform.model_file import CHECKSUM, read_model_facts


def model_sha256(model: Path, *, facts: Mapping[str, Any] | None = None) -> str:
    """Hash of a model: its tensors (or the checksum of them, which loading checks), and what else its masks depend on.

    Args:
        model: A ``.safetensors`` file.
        facts: Those of the JSON that it shall have beside it; None reads what it has.

    Raises:
        ModelError: It, or the JSON beside it, cannot be read.
    """
    facts = read_model_facts(model) if facts is None else facts
    config = facts["config"]
    used = [
        facts["mpp"],
        facts["classes"],
        # Those of earlier versions have no blocks; their hashes stay as they were.
        {
            key: config[key]
            for key in ("sampling", "fields", "networks", "blocks")
            if config.get(key) is not None
        },
    ]
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    if CHECKSUM in facts:
        digest.update(facts[CHECKSUM].encode())
        return digest.hexdigest()
    try:
        with model.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"model {model}: cannot be read ({error}). Check the file.") from error
    return digest.hexdigest()
