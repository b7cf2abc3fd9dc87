"""What a study costs without anything around it: torch, transformers and ``generate``, in a loop.

Run by ``perf/study.py`` as ``python study_bare.py MODEL SEED < measurements``: a JSON list of
``{"prompts": [[ids], ...], "output_tokens": n}``. The model is built once, with random weights.
Prints a JSON list of the SHA-256 of each measurement's tokens.
"""

from __future__ import annotations

import hashlib
import json
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig


def main(model: str, seed: int) -> None:
    """Build the model, and generate."""
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(model)
    engine = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    found = []
    for asked in json.load(sys.stdin):
        ids, count = torch.tensor(asked["prompts"]), asked["output_tokens"]
        given = GenerationConfig(
            max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        with torch.inference_mode():
            out = engine.generate(ids, attention_mask=torch.ones_like(ids), generation_config=given)
        rows = out[:, ids.shape[1] :].tolist()
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        found.append(hashlib.sha256(text.encode()).hexdigest())
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
