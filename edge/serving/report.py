"""What is said of a response beside its text: usage, how speculation went, what was spent. The shapes stand in edge/serving/schema.py.

Knows completions; knows nothing of HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edge.completion import Completion
from edge.rounds import Round
from edge.serving.choice import Choice, Delta


def usage(choices: Sequence[Choice]) -> dict[str, int]:
    """Tokens up to the one that ended each text; a prompt of several choices counts once."""
    num_prompt = sum(len(prompt) for prompt in {id(choice.prompt): choice.prompt for choice in choices}.values())
    num_completion = sum(len(choice.completion.tokens) for choice in choices)
    return {"prompt_tokens": num_prompt, "completion_tokens": num_completion, "total_tokens": num_prompt + num_completion}


def speculative_decoding(completion: Completion) -> dict[str, Any]:
    """As vLLM's per-request figures: a step is a round with drafts, whose target token is not counted as accepted."""
    steps = [done for done in completion.rounds if done.num_drafted or done.num_accepted]
    num_draft = sum(done.num_drafted for done in steps)
    num_accepted = sum(done.num_accepted for done in steps)
    histogram = [0] * (1 + max((done.num_accepted for done in steps), default=-1))
    for done in steps:
        histogram[done.num_accepted] += 1
    return {
        "mean_acceptance_length": 1.0 + num_accepted / len(steps) if steps else None,
        "draft_acceptance_rate": num_accepted / num_draft if num_draft else None,
        "acceptance_histogram": histogram,
        "num_spec_steps": len(steps),
        "num_draft_tokens": num_draft,
        "num_accepted_draft_tokens": num_accepted,
    }


def cactus(choice: Choice, *, ledger: bool) -> dict[str, Any]:
    completion, summary = choice.completion, choice.completion.summary
    acceptance = completion.acceptance
    record: dict[str, Any] = {
        "index": choice.index,
        "seed": choice.seed,
        "acceptance": {
            "rule": acceptance.rule,
            "relaxation": acceptance.relaxation,
            "strength": acceptance.strength,
            "budget": summary.budget,
            "label": str(acceptance.label),
        },
        "divergence": math.fsum(token.divergence for token in completion.tokens),
        "num_resumes": summary.num_resumes,
        "drafter_error": summary.drafter_error,
        "bytes": {"up": summary.num_bytes_up, "down": summary.num_bytes_down},
        "plan": summary.speculation,
        "times": {f"{name}_ms": 1e3 * getattr(summary, f"{name}_s") for name in ("ttft", "wall", "draft", "wait", "queue", "verify")},
    }
    if ledger:
        record["ledger"] = [token.divergence for token in completion.tokens]
    return record


def trace(delta: Delta) -> dict[str, Any]:
    """Where a round's tokens came from, and what the round cost."""
    tokens = [
        {
            "text": piece.text,
            "id": piece.token.id,
            "origin": str(piece.token.origin),
            "logprob": piece.token.logprob if math.isfinite(piece.token.logprob) else None,
            "divergence": piece.token.divergence,
        }
        for piece in delta.pieces
    ]
    return {"index": delta.index, "tokens": tokens, "round": _times(delta.round)}


def _times(done: Round) -> dict[str, float | int]:
    return {
        "draft_ms": 1e3 * done.draft_s,
        "wait_ms": 1e3 * done.wait_s,
        "queue_ms": 1e3 * done.queue_s,
        "verify_ms": 1e3 * done.verify_s,
        "num_drafted": done.num_drafted,
        "length": done.length,
        "num_accepted": done.num_accepted,
        "at_ms": 1e3 * done.at_s,
    }
