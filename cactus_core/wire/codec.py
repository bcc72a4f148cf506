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
from cactus_core.errors import InvalidInput, Mismatch
from cactus_core.lattice import LatticeLaws
from cactus_core.rules import DEFAULT_RULE
from cactus_core.sampling import SamplingParams
from cactus_core.session import PROTOCOL, Decision, Finish, Limits, Request, Served
from cactus_core.wire import varints
from cactus_core.wire.laws import decode_laws, encode_laws
from cactus_core.wire.v1 import speculation_pb2 as pb

_FINISH = {None: pb.FINISH_NONE, Finish.STOP: pb.FINISH_STOP, Finish.LENGTH: pb.FINISH_LENGTH}
_FINISHED = {number: finish for finish, number in _FINISH.items()}


def pack_laws(laws: LatticeLaws) -> pb.Laws:
    return pb.Laws(bits=laws.bits, num_laws=len(laws.ids), packed=encode_laws(laws))


def unpack_laws(message: pb.Laws, limits: Limits) -> LatticeLaws:
    most = limits.max_rows * limits.max_length
    if message.num_laws > most:
        raise InvalidInput(f"a block may hold at most {most} laws, not {message.num_laws}")
    return decode_laws(message.packed, message.num_laws, message.bits, limits.max_support)


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


def pack_request(request: Request) -> pb.Open:
    sampling = request.sampling
    return pb.Open(
        protocol=PROTOCOL,
        model=request.model,
        fingerprint=request.fingerprint,
        sampling=pb.Sampling(temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p),
        acceptance=pack_acceptance(request.acceptance),
        seed=request.seed,
        prompt_varints=varints.encode(np.array(request.prompt)),
        max_tokens=request.max_tokens,
        decode_alone=request.decode_alone,
    )


def unpack_request(message: pb.Open) -> Request:
    if message.protocol != PROTOCOL:
        raise Mismatch(f"this side speaks protocol {PROTOCOL}, the other {message.protocol}; install the same version of Cactus on both")
    sampling = message.sampling
    return Request(
        prompt=tuple(varints.decode(message.prompt_varints).tolist()),
        max_tokens=message.max_tokens,
        seed=message.seed,
        fingerprint=message.fingerprint,
        model=message.model,
        sampling=SamplingParams(sampling.temperature, sampling.top_k, sampling.top_p),
        acceptance=unpack_acceptance(message.acceptance),
        decode_alone=message.decode_alone,
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
        timings=pb.Timings(queue_s=decision.queue_s, verify_s=decision.verify_s),
        credits=num_credits,
        divergence=decision.divergence if any(decision.divergence) else (),
    )


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
        limits=Limits(limits.max_rows, limits.max_length, limits.max_support, limits.max_frame_bytes),
        rules={rule.name: rule.label for rule in message.rules},
        relaxations={relaxation.name: relaxation.strength for relaxation in message.relaxations},
    )
