from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Finish(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_NONE: _ClassVar[Finish]
    FINISH_STOP: _ClassVar[Finish]
    FINISH_LENGTH: _ClassVar[Finish]
FINISH_NONE: Finish
FINISH_STOP: Finish
FINISH_LENGTH: Finish

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("protocol", "model", "fingerprint", "vocab_size", "max_positions", "limits", "rules", "relaxations")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    RELAXATIONS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    model: str
    fingerprint: str
    vocab_size: int
    max_positions: int
    limits: Limits
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    relaxations: _containers.RepeatedCompositeFieldContainer[Relaxation]
    def __init__(self, protocol: _Optional[int] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., vocab_size: _Optional[int] = ..., max_positions: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., relaxations: _Optional[_Iterable[_Union[Relaxation, _Mapping]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_rows", "max_length", "max_support", "max_frame_bytes", "max_law_tokens")
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_SUPPORT_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_LAW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_rows: int
    max_length: int
    max_support: int
    max_frame_bytes: int
    max_law_tokens: int
    def __init__(self, max_rows: _Optional[int] = ..., max_length: _Optional[int] = ..., max_support: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., max_law_tokens: _Optional[int] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("name", "label")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    label: str
    def __init__(self, name: _Optional[str] = ..., label: _Optional[str] = ...) -> None: ...

class Relaxation(_message.Message):
    __slots__ = ("name", "strength")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    strength: str
    def __init__(self, name: _Optional[str] = ..., strength: _Optional[str] = ...) -> None: ...

class EdgeFrame(_message.Message):
    __slots__ = ("open", "draft_block", "close", "draft_tree", "padding", "checksum")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DRAFT_BLOCK_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TREE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    open: Open
    draft_block: DraftBlock
    close: Close
    draft_tree: DraftTree
    padding: bytes
    checksum: int
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., draft_block: _Optional[_Union[DraftBlock, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., draft_tree: _Optional[_Union[DraftTree, _Mapping]] = ..., padding: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class CloudFrame(_message.Message):
    __slots__ = ("opened", "decision", "padding", "checksum")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    decision: Decision
    padding: bytes
    checksum: int
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., padding: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol", "model", "fingerprint", "sampling", "acceptance", "seed", "prompt_varints", "max_tokens", "decode_alone", "stop_varints", "num_top_logprobs", "committed_varints", "padded")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_VARINTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DECODE_ALONE_FIELD_NUMBER: _ClassVar[int]
    STOP_VARINTS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_VARINTS_FIELD_NUMBER: _ClassVar[int]
    PADDED_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    model: str
    fingerprint: str
    sampling: Sampling
    acceptance: Acceptance
    seed: int
    prompt_varints: bytes
    max_tokens: int
    decode_alone: bool
    stop_varints: bytes
    num_top_logprobs: int
    committed_varints: bytes
    padded: bool
    def __init__(self, protocol: _Optional[int] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., acceptance: _Optional[_Union[Acceptance, _Mapping]] = ..., seed: _Optional[int] = ..., prompt_varints: _Optional[bytes] = ..., max_tokens: _Optional[int] = ..., decode_alone: _Optional[bool] = ..., stop_varints: _Optional[bytes] = ..., num_top_logprobs: _Optional[int] = ..., committed_varints: _Optional[bytes] = ..., padded: _Optional[bool] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: _containers.RepeatedCompositeFieldContainer[LogitBias]
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., logit_bias: _Optional[_Iterable[_Union[LogitBias, _Mapping]]] = ...) -> None: ...

class LogitBias(_message.Message):
    __slots__ = ("token", "bias")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    token: int
    bias: float
    def __init__(self, token: _Optional[int] = ..., bias: _Optional[float] = ...) -> None: ...

class Acceptance(_message.Message):
    __slots__ = ("rule", "relaxation", "strength", "budget")
    RULE_FIELD_NUMBER: _ClassVar[int]
    RELAXATION_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    rule: str
    relaxation: str
    strength: float
    budget: float
    def __init__(self, rule: _Optional[str] = ..., relaxation: _Optional[str] = ..., strength: _Optional[float] = ..., budget: _Optional[float] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("base", "credits")
    BASE_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    base: int
    credits: int
    def __init__(self, base: _Optional[int] = ..., credits: _Optional[int] = ...) -> None: ...

class DraftBlock(_message.Message):
    __slots__ = ("round", "base", "num_rows", "length", "choice_varints", "law_varints", "laws")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHOICE_VARINTS_FIELD_NUMBER: _ClassVar[int]
    LAW_VARINTS_FIELD_NUMBER: _ClassVar[int]
    LAWS_FIELD_NUMBER: _ClassVar[int]
    round: int
    base: int
    num_rows: int
    length: int
    choice_varints: bytes
    law_varints: bytes
    laws: Laws
    def __init__(self, round: _Optional[int] = ..., base: _Optional[int] = ..., num_rows: _Optional[int] = ..., length: _Optional[int] = ..., choice_varints: _Optional[bytes] = ..., law_varints: _Optional[bytes] = ..., laws: _Optional[_Union[Laws, _Mapping]] = ...) -> None: ...

class DraftTree(_message.Message):
    __slots__ = ("round", "base", "num_nodes", "packed", "wait_ms")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    NUM_NODES_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    round: int
    base: int
    num_nodes: int
    packed: bytes
    wait_ms: int
    def __init__(self, round: _Optional[int] = ..., base: _Optional[int] = ..., num_nodes: _Optional[int] = ..., packed: _Optional[bytes] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class Laws(_message.Message):
    __slots__ = ("bits", "num_laws", "packed")
    BITS_FIELD_NUMBER: _ClassVar[int]
    NUM_LAWS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    bits: int
    num_laws: int
    packed: bytes
    def __init__(self, bits: _Optional[int] = ..., num_laws: _Optional[int] = ..., packed: _Optional[bytes] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("round", "base", "row", "num_accepted", "final_token", "logprobs", "finish", "timings", "credits", "divergence", "top_logprobs", "accepted_varints")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    FINAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    DIVERGENCE_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_VARINTS_FIELD_NUMBER: _ClassVar[int]
    round: int
    base: int
    row: int
    num_accepted: int
    final_token: int
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    finish: Finish
    timings: Timings
    credits: int
    divergence: _containers.RepeatedScalarFieldContainer[float]
    top_logprobs: _containers.RepeatedCompositeFieldContainer[Likeliest]
    accepted_varints: bytes
    def __init__(self, round: _Optional[int] = ..., base: _Optional[int] = ..., row: _Optional[int] = ..., num_accepted: _Optional[int] = ..., final_token: _Optional[int] = ..., logprobs: _Optional[_Iterable[float]] = ..., finish: _Optional[_Union[Finish, str]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., credits: _Optional[int] = ..., divergence: _Optional[_Iterable[float]] = ..., top_logprobs: _Optional[_Iterable[_Union[Likeliest, _Mapping]]] = ..., accepted_varints: _Optional[bytes] = ...) -> None: ...

class Likeliest(_message.Message):
    __slots__ = ("token_varints", "logprobs")
    TOKEN_VARINTS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    token_varints: bytes
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, token_varints: _Optional[bytes] = ..., logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_s", "verify_s", "hint_age_s")
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    VERIFY_S_FIELD_NUMBER: _ClassVar[int]
    HINT_AGE_S_FIELD_NUMBER: _ClassVar[int]
    queue_s: float
    verify_s: float
    hint_age_s: float
    def __init__(self, queue_s: _Optional[float] = ..., verify_s: _Optional[float] = ..., hint_age_s: _Optional[float] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
