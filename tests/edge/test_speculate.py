"""The round loop over a scripted verifier."""

from dataclasses import replace

import numpy as np

from cactus_core.block import Block
from cactus_core.lattice import LatticeLaws
from cactus_core.session import Decision, Finish, Request
from edge.rounds import Origin
from edge.speculate import speculate
from edge.summary import Summary
from edge.tuning.plan import RowsPlan


class Counting:
    """Drafts the text's length, and the numbers after it; every law is certain."""

    vocab_size, max_positions = 1000, 40

    def draft(self, text, *, num_rows, length, params, seed, num_prompt):
        tokens = np.arange(len(text), len(text) + length)[None].repeat(num_rows, 0)
        ids = tokens[:1].T
        return Block(len(text), tokens, np.arange(length)[None].repeat(num_rows, 0), LatticeLaws(ids, np.full_like(ids, 2), 1))


class Scripted:
    """Accepts as many tokens as the script says, then 7; ends the text with the script. An accepted token costs an eighth of a nat."""

    def __init__(self, script):
        self.script = list(script)
        self.blocks = []

    async def exchange(self, block, round_number):
        self.blocks.append(block)
        accepted = min(self.script.pop(0), block.length)
        finish = None if self.script else Finish.LENGTH
        divergence = (0.125,) * accepted + (0.0,)
        return Decision(round_number, block.base, 0, accepted, 7, (-0.5,) * (accepted + 1), divergence, finish, 0.0, 0.0)


def failed(error):
    raise error


async def rounds(script, *, max_tokens=30, length=4):
    link = Scripted(script)
    request = Request((1, 2), max_tokens, 0, "f")
    return link, [done async for done in speculate(link, request, Counting(), lambda: RowsPlan(2, length), failed)]


async def test_each_block_follows_what_stands():
    link, done = await rounds([4, 0, 2])
    assert [block.base for block in link.blocks] == [2, 7, 8]
    assert [[token.id for token in r.tokens] for r in done] == [[2, 3, 4, 5, 7], [7], [8, 9, 7]]


async def test_every_token_says_where_it_came_from():
    _, done = await rounds([4, 0, 2])
    accepted, corrected, bonus = Origin.ACCEPTED, Origin.CORRECTED, Origin.BONUS
    assert [[token.origin for token in r.tokens] for r in done] == [[accepted] * 4 + [bonus], [corrected], [accepted, accepted, corrected]]


async def test_no_more_is_drafted_than_may_stand():
    link, done = await rounds([4, 4], max_tokens=6)
    assert [block.length for block in link.blocks] == [4, 0]
    assert done[-1].tokens[0].origin is Origin.DECODED


async def test_the_drafter_is_told_where_the_prompt_ends_whatever_was_emitted():
    told = []

    class Watched(Counting):
        def draft(self, text, **asked):
            told.append((len(text), asked["num_prompt"]))
            return super().draft(text, **asked)

    async for _ in speculate(Scripted([4, 0]), Request((1, 2), 30, 0, "f"), Watched(), lambda: RowsPlan(2, 4), failed):
        pass
    assert told == [(2, 2), (7, 2)]


async def test_the_likeliest_tokens_go_with_the_tokens_they_were_told_with():
    class Telling(Scripted):
        async def exchange(self, block, round_number):
            decision = await super().exchange(block, round_number)
            return replace(decision, top_logprobs=tuple(((place, -0.5),) for place in range(decision.num_emitted)))

    done = [each async for each in speculate(Telling([2, 0]), Request((1, 2), 30, 0, "f"), Counting(), lambda: RowsPlan(2, 4), failed)]
    assert [[token.likeliest for token in each.tokens] for each in done] == [[((0, -0.5),), ((1, -0.5),), ((2, -0.5),)], [((0, -0.5),)]]
    _, plain = await rounds([2])
    assert [token.likeliest for token in plain[0].tokens] == [(), (), ()]


async def test_a_full_drafter_leaves_decoding_to_the_cloud():
    link, _ = await rounds([4] * 8 + [0] * 4, max_tokens=100)
    assert [block.length for block in link.blocks][-4:] == [0] * 4


async def test_the_summary_adds_the_rounds_up():
    _, done = await rounds([4, 0, 2])
    summary = Summary()
    for i, r in enumerate(done):
        summary.add(r, float(i + 1))
    assert (summary.num_tokens, summary.num_rounds, summary.num_drafted, summary.num_accepted) == (9, 3, 24, 6)
    assert summary.divergence == 6 * 0.125
    assert (summary.tokens_per_round, summary.acceptance, summary.tokens_per_s, summary.ttft_s) == (3.0, 0.5, 3.0, 1.0)


async def test_a_text_goes_on_after_what_came_before_a_cut():
    request = Request((1, 2), 9, 0, "f", committed=(2, 3))
    link = Scripted([4, 1])
    done = [each async for each in speculate(link, request, Counting(), lambda: RowsPlan(2, 4), failed)]
    assert [(block.base, block.length) for block in link.blocks] == [(4, 4), (9, 1)]
    assert sum(len(each.tokens) for each in done) == 7


async def test_a_plan_to_draft_no_more_ends_the_rounds():
    plans = iter([RowsPlan(2, 4), RowsPlan(0, 0)])
    done = [each async for each in speculate(Scripted([1, 1]), Request((1, 2), 30, 0, "f"), Counting(), lambda: next(plans), failed)]
    assert [each.finish for each in done] == [None]


async def test_a_drafter_that_fails_ends_the_rounds_and_is_told_of():
    class Broken(Counting):
        def draft(self, text, **asked):
            if len(text) > 2:
                raise RuntimeError("no more memory")
            return super().draft(text, **asked)

    told = []
    done = [each async for each in speculate(Scripted([1, 1]), Request((1, 2), 30, 0, "f"), Broken(), lambda: RowsPlan(2, 4), told.append)]
    assert len(done) == 1
    assert [str(error) for error in told] == ["no more memory"]
