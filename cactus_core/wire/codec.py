"""Between the wire's messages and the core's values.

What arrives is checked here, before it is used: counts that add up, ids in range, sizes within limits. Whatever does not
hold raises `InvalidInput`, one line that says why.
"""

from __future__ import annotations

import math

import numpy as np

from cactus_core.acceptance import Acceptance
from cactus_core.block import Block, empty_block
from cactus_core.coins import Ints
from cactus_core.coupled import CoupledTree
from cactus_core.errors import InvalidInput, Mismatch
from cactus_core.lattice import LatticeLaws
from cactus_core.rules import DEFAULT_RULE
from cactus_core.sampling import SamplingParams
from cactus_core.session import PROTOCOL, Decision, Finish, Hint, Likeliest, Limits, Request, Served
from cactus_core.wire import varints
from cactus_core.wire.laws import decode_laws, encode_laws
from cactus_core.wire.trees import decode_tree, encode_tree
from cactus_core.wire.v1 import speculation_pb2 as pb

_FINISH = {None: pb.FINISH_NONE, Finish.STOP: pb.FINISH_STOP, Finish.LENGTH: pb.FINISH_LENGTH}
_LONGEST_MS = 2**32 - 1
_FINISHED = {number: finish for finish, number in _FINISH.items()}


def pack_laws(laws: LatticeLaws) -> pb.Laws:
    return pb.Laws(bits=laws.bits, num_laws=len(laws.ids), packed=encode_laws(laws))


def unpack_laws(message: pb.Laws, limits: Limits) -> LatticeLaws:
    most = limits.max_rows * limits.max_length
    if message.num_laws > most:
        raise InvalidInput(f"a block may hold at most {most} laws, not {message.num_laws}")
    return decode_laws(message.packed, message.num_laws, message.bits, limits.max_support, limits.max_law_tokens)


def pack_block(block: Block, round_number: int) -> pb.DraftBlock:
    if block.tokens.size == 0:
        return pb.DraftBlock(round=round_number, base=block.base)
    return pb.DraftBlock(
        round=round_number,
        base=block.base,
        num_rows=block.num_rows,
        length=block.length,
        choice_varints=varints.encode(block.choices.ravel()),
        law_varints=varints.encode(block.law_of.ravel()),
        laws=pack_laws(block.laws),
    )


def unpack_block(message: pb.DraftBlock, limits: Limits, vocab_size: int) -> Block:
    num_rows, length = message.num_rows, message.length
    if num_rows * length == 0:
        return empty_block(message.base)
    if num_rows > limits.max_rows or length > limits.max_length:
        raise InvalidInput(f"a block may hold at most {limits.max_rows} x {limits.max_length} tokens, not {num_rows} x {length}")
    choice, law_of = _grid(message.choice_varints, num_rows, length), _grid(message.law_varints, num_rows, length)
    laws = unpack_laws(message.laws, limits)
    if law_of.max() >= len(laws.ids):
        raise InvalidInput(f"a block of {len(laws.ids)} laws names law {law_of.max()}")
    if (choice >= laws.sizes[law_of]).any():
        raise InvalidInput("a drafted token is not in the support of the law it is said to be drawn from")
    if laws.ids.max() >= vocab_size:
        raise InvalidInput(f"a law names token {laws.ids.max()}, but the vocabulary has {vocab_size}")
    return Block(message.base, laws.ids[law_of, choice], law_of, laws)


def pack_hint(hint: Hint) -> pb.DraftTree:
    """Waits travel in whole milliseconds, rounded up: a wait never becomes none."""
    tree = hint.tree
    packed = encode_tree(tree.tokens, tree.parents)
    wait_ms = None if math.isinf(hint.wait_s) else min(math.ceil(hint.wait_s * 1e3), _LONGEST_MS)
    return pb.DraftTree(round=hint.round, base=tree.base, num_nodes=len(tree.tokens), packed=packed, wait_ms=wait_ms)


def unpack_hint(message: pb.DraftTree, limits: Limits, vocab_size: int) -> Hint:
    """Raises what `_unpack_tree` raises."""
    wait_s = message.wait_ms / 1e3 if message.HasField("wait_ms") else math.inf
    return Hint(message.round, _unpack_tree(message, limits, vocab_size), wait_s)


def _unpack_tree(message: pb.DraftTree, limits: Limits, vocab_size: int) -> CoupledTree:
    """A tree may have as many nodes as a block may have tokens, and be as deep as a block may be long: each depth is a turn of the walk."""
    most = limits.max_rows * limits.max_length
    if message.num_nodes > most:
        raise InvalidInput(f"a tree may have at most {most} nodes, not {message.num_nodes}")
    tree = CoupledTree(message.base, *decode_tree(message.packed, message.num_nodes))
    if tree.tokens.max(initial=-1) >= vocab_size:
        raise InvalidInput(f"a tree names token {tree.tokens.max()}, but the vocabulary has {vocab_size}")
    if (depth := tree.depths.max(initial=0)) > limits.max_length:
        raise InvalidInput(f"a tree may be at most {limits.max_length} nodes deep, not {depth}")
    return tree


def _grid(data: bytes, num_rows: int, length: int) -> Ints:
    numbers = varints.decode(data)
    if len(numbers) != num_rows * length:
        raise InvalidInput(f"a block of {num_rows} x {length} tokens comes with {len(numbers)} of them")
    return numbers.reshape(num_rows, length)


def pack_acceptance(acceptance: Acceptance) -> pb.Acceptance:
    budget = None if math.isinf(acceptance.budget) else acceptance.budget
    return pb.Acceptance(rule=acceptance.rule, relaxation=acceptance.relaxation, strength=acceptance.strength, budget=budget)


def unpack_acceptance(message: pb.Acceptance) -> Acceptance:
    budget = message.budget if message.HasField("budget") else math.inf
    return Acceptance(message.rule or DEFAULT_RULE, message.relaxation, message.strength, budget)


def pack_sampling(sampling: SamplingParams) -> pb.Sampling:
    return pb.Sampling(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=None if sampling.repetition_penalty == 1.0 else sampling.repetition_penalty,
        logit_bias=[pb.LogitBias(token=token, bias=bias) for token, bias in sampling.logit_bias],
    )


def unpack_sampling(message: pb.Sampling) -> SamplingParams:
    return SamplingParams(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p,
        min_p=message.min_p,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        repetition_penalty=message.repetition_penalty if message.HasField("repetition_penalty") else 1.0,
        logit_bias=tuple((each.token, each.bias) for each in message.logit_bias),
    )


def pack_request(request: Request) -> pb.Open:
    return pb.Open(
        protocol=PROTOCOL,
        model=request.model,
        fingerprint=request.fingerprint,
        sampling=pack_sampling(request.sampling),
        acceptance=pack_acceptance(request.acceptance),
        seed=request.seed,
        prompt_varints=varints.encode(np.array(request.prompt)),
        max_tokens=request.max_tokens,
        decode_alone=request.decode_alone,
        stop_varints=varints.encode(np.array(request.stop_ids, dtype=np.int64)),
        num_top_logprobs=request.num_top_logprobs,
        committed_varints=varints.encode(np.array(request.committed, dtype=np.int64)),
    )


def unpack_request(message: pb.Open) -> Request:
    if message.protocol != PROTOCOL:
        raise Mismatch(f"this side speaks protocol {PROTOCOL}, the other {message.protocol}; install the same version of Cactus on both")
    return Request(
        prompt=tuple(varints.decode(message.prompt_varints).tolist()),
        max_tokens=message.max_tokens,
        seed=message.seed,
        fingerprint=message.fingerprint,
        model=message.model,
        sampling=unpack_sampling(message.sampling),
        acceptance=unpack_acceptance(message.acceptance),
        decode_alone=message.decode_alone,
        stop_ids=tuple(varints.decode(message.stop_varints).tolist()),
        num_top_logprobs=message.num_top_logprobs,
        committed=tuple(varints.decode(message.committed_varints).tolist()),
    )


def pack_decision(decision: Decision, num_credits: int) -> pb.Decision:
    return pb.Decision(
        round=decision.round,
        base=decision.base,
        row=decision.row,
        num_accepted=decision.num_accepted,
        final_token=decision.final,
        logprobs=decision.logprobs,
        finish=_FINISH[decision.finish],
        timings=pb.Timings(queue_s=decision.queue_s, verify_s=decision.verify_s, hint_age_s=decision.hint_age_s),
        credits=num_credits,
        divergence=decision.divergence if any(decision.divergence) else (),
        top_logprobs=[_pack_likeliest(likeliest) for likeliest in decision.top_logprobs],
        accepted_varints=varints.encode(np.array(decision.accepted, dtype=np.int64)),
    )


def _pack_likeliest(likeliest: Likeliest) -> pb.Likeliest:
    ids = np.array([token for token, _ in likeliest], dtype=np.int64)
    return pb.Likeliest(token_varints=varints.encode(ids), logprobs=[logprob for _, logprob in likeliest])


def _unpack_likeliest(message: pb.Likeliest) -> Likeliest:
    ids = varints.decode(message.token_varints).tolist()
    if len(ids) != len(message.logprobs):
        raise InvalidInput(f"a decision names {len(ids)} likeliest tokens with {len(message.logprobs)} log-probabilities")
    return tuple(zip(ids, message.logprobs, strict=True))


def unpack_decision(message: pb.Decision) -> Decision:
    is_exact = not message.divergence
    return Decision(
        round=message.round,
        base=message.base,
        row=message.row,
        num_accepted=message.num_accepted,
        final=message.final_token if message.HasField("final_token") else None,
        logprobs=tuple(message.logprobs),
        divergence=(0.0,) * len(message.logprobs) if is_exact else tuple(message.divergence),
        finish=_FINISHED[message.finish],
        queue_s=message.timings.queue_s,
        verify_s=message.timings.verify_s,
        top_logprobs=tuple(_unpack_likeliest(likeliest) for likeliest in message.top_logprobs),
        accepted=tuple(varints.decode(message.accepted_varints).tolist()),
        hint_age_s=message.timings.hint_age_s,
    )


def pack_served(served: Served) -> pb.Description:
    limits = served.limits
    return pb.Description(
        protocol=PROTOCOL,
        model=served.model,
        fingerprint=served.fingerprint,
        vocab_size=served.vocab_size,
        max_positions=served.max_positions,
        limits=pb.Limits(
            max_rows=limits.max_rows,
            max_length=limits.max_length,
            max_support=limits.max_support,
            max_law_tokens=limits.max_law_tokens,
            max_frame_bytes=limits.max_frame_bytes,
        ),
        rules=[pb.Rule(name=name, label=label) for name, label in served.rules.items()],
        relaxations=[pb.Relaxation(name=name, strength=strength) for name, strength in served.relaxations.items()],
    )


def unpack_served(message: pb.Description) -> Served:
    limits = message.limits
    return Served(
        model=message.model,
        fingerprint=message.fingerprint,
        vocab_size=message.vocab_size,
        max_positions=message.max_positions,
        limits=Limits(limits.max_rows, limits.max_length, limits.max_support, limits.max_law_tokens, limits.max_frame_bytes),
        rules={rule.name: rule.label for rule in message.rules},
        relaxations={relaxation.name: relaxation.strength for relaxation in message.relaxations},
    )
