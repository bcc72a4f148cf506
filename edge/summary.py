"""What a response cost and what drafting brought."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.rounds import Round


@dataclass(slots=True)
class Summary:
    """Sums over a response's rounds. `wall_s` runs from the request's opening to its last token, `ttft_s` to its first.

    `divergence` is the ledger's sum, in nats, and `budget` the most that it may come to; None where nobody set one. `num_resumes` is
    how often the link was lost and the text went on over another, `num_retracted` how many tokens that the draft wrote meanwhile did
    not stand, `drafter_error` what stopped the drafter, `num_bytes_up` and `num_bytes_down` what its frames came to, and `speculation`
    what the tuner believed and chose in the end.
    """

    num_tokens: int = 0
    num_rounds: int = 0
    num_drafted: int = 0
    num_draft_positions: int = 0
    num_accepted: int = 0
    draft_s: float = 0.0
    wait_s: float = 0.0
    queue_s: float = 0.0
    verify_s: float = 0.0
    ttft_s: float = 0.0
    wall_s: float = 0.0
    divergence: float = 0.0
    budget: float | None = None
    num_resumes: int = 0
    num_retracted: int = 0
    drafter_error: str = ""
    num_bytes_up: int = 0
    num_bytes_down: int = 0
    speculation: dict[str, object] = field(default_factory=dict)

    def add(self, done: Round, since_start_s: float) -> None:
        """Counts one round that ended `since_start_s` after the request was opened."""
        if not self.num_rounds:
            self.ttft_s = since_start_s
        self.num_tokens += len(done.tokens)
        self.num_rounds += 1
        self.num_drafted += done.num_drafted
        self.num_draft_positions += done.length
        self.num_accepted += done.num_accepted
        self.draft_s += done.draft_s
        self.wait_s += done.wait_s
        self.queue_s += done.queue_s
        self.verify_s += done.verify_s
        self.wall_s = since_start_s
        for token in done.tokens:  # one by one, as the cloud adds them up: the same sum to the last bit
            self.divergence += token.divergence

    @property
    def tokens_per_round(self) -> float:
        return self.num_tokens / max(self.num_rounds, 1)

    @property
    def acceptance(self) -> float:
        """The share of a block's positions that stand, on average; 0 without drafts."""
        return self.num_accepted / max(self.num_draft_positions, 1)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.wall_s if self.wall_s else 0.0
