"""The edge's verbs: generate, describe, export. Imports its libraries when a verb runs, so that `cactus --help` is quick."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cactus_core.demo_pair import demo_model
from cactus_core.turn_taking import take_short_turns

if TYPE_CHECKING:
    from cactus_core.acceptance import Acceptance
    from edge.completer import Completer, Drafting
    from edge.completion import Completion, Piece, Retraction
    from edge.drafting.drafter import Drafter
    from edge.link import Endpoint

PromptArgument = Annotated[str, typer.Argument(help="the text to go on from")]
EndpointOption = Annotated[
    list[str] | None,
    typer.Option(help="host:port of a gateway or a verifier; repeatable: the next when one is lost; default: 127.0.0.1:7800"),
]
TemperatureOption = Annotated[float, typer.Option(min=0.0, help="0 is greedy")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="the same seed draws the same coins; default: a new one")]
MaxTokensOption = Annotated[int, typer.Option(min=1)]
DraftsOption = Annotated[int | None, typer.Option("--drafts", min=1, help="K, paths a block; default: as the tuner finds best")]
BlockOption = Annotated[int | None, typer.Option("--block", min=1, help="L, tokens a path; default: as the tuner finds best")]
TreeOption = Annotated[int | None, typer.Option("--tree", min=1, help="N, nodes of a coupled tree; default: as the tuner finds best")]
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait-ms", min=0.0, help="of --tree: how long the cloud waits for each tree before it decodes on; default: until it comes"
    ),
]
DeltaOption = Annotated[float | None, typer.Option(help="nats that each token's law may stray from the target's; default: none")]
BudgetOption = Annotated[float | None, typer.Option(help="nats that the whole text may stray; default: as many as its tokens do")]
TlsCaOption = Annotated[Path | None, typer.Option(help="PEM CA that signed the endpoint's certificate: reach it by TLS")]
TlsCertOption = Annotated[Path | None, typer.Option(help="PEM certificate to show to an endpoint that asks for one")]
TlsKeyOption = Annotated[Path | None, typer.Option(help="PEM private key of --tls-cert")]
TokenFileOption = Annotated[
    Path | None, typer.Option(help="file with the token that the endpoint asks for; default: the environment variable CACTUS_TOKEN")
]
InsecureTokensOption = Annotated[bool, typer.Option("--insecure-tokens", help="send the token in plain text too, where the link is safe")]
_By = Literal["model", "lookup", "nothing"]
_ANY_LENGTH = 1 << 30  # what is looked up has no end of its own
DEFAULT_ENDPOINT = "127.0.0.1:7800"
DEFAULT_PROMPT = "class Queue:\n    def __init__(self"


def generate(
    prompt: PromptArgument = DEFAULT_PROMPT,
    endpoint: EndpointOption = None,
    draft: Annotated[
        str | None, typer.Option(help="a draft: folder of `cactus export`, checkpoint, or hub name; default: the demo's")
    ] = None,
    temperature: TemperatureOption = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is off")] = 0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="1 is off")] = 1.0,
    min_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="least share of the likeliest token's probability; 0 is off")] = 0.0,
    presence_penalty: Annotated[float, typer.Option(help="off the logit of each token that was emitted, -2 to 2")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="off the logit of a token each time that it was emitted, -2 to 2")] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="divides logits of tokens of prompt and text, or multiplies those below 0")
    ] = 1.0,
    logit_bias: Annotated[
        list[str] | None, typer.Option(metavar="ID:VALUE", help="adds to a token's logit, -100 to 100; repeatable")
    ] = None,
    stop_id: Annotated[list[int] | None, typer.Option(min=0, help="a token that ends the text, beside the model's own; repeatable")] = None,
    logprobs: Annotated[
        int, typer.Option("--logprobs", min=0, max=20, help="of --json: so many of the likeliest tokens at each place")
    ] = 0,
    seed: SeedOption = None,
    max_tokens: MaxTokensOption = 128,
    drafts: DraftsOption = None,
    block: BlockOption = None,
    tree: TreeOption = None,
    wait: WaitOption = None,
    ahead: Annotated[bool, typer.Option("--ahead", help="let the drafter work on while a decision is awaited: it seldom gains")] = False,
    objective: Annotated[Literal["latency", "cost", "energy"], typer.Option(help="what the tuner is to make the most of")] = "latency",
    max_bytes_up: Annotated[
        float | None,
        typer.Option(min=0.0, help="draft so little that no more bytes go up a token, on average: for links paid by the byte"),
    ] = None,
    support: Annotated[int | None, typer.Option(min=1, help="S, tokens a law may name: fewer cost fewer bytes and bring less")] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="what decides which tokens stand: a name that `cactus describe` lists; default: coupled, or as other options need"
        ),
    ] = None,
    delta: DeltaOption = None,
    relaxation: Annotated[str | None, typer.Option(help="another relaxation than --delta's: a name that `cactus describe` lists")] = None,
    strength: Annotated[float | None, typer.Option(help="of --relaxation: its delta, price, alpha, ...")] = None,
    budget: BudgetOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="let the cloud decode alone, without drafts")] = False,
    lookup: Annotated[
        bool, typer.Option("--lookup", help="draft what followed the same tokens before in the text, without a model")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="while the cloud is away let the draft write on, unverified until it is back")
    ] = False,
    padded: Annotated[
        bool, typer.Option("--padded", help="send and receive frames of few sizes, which tell a listener on the link less")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="say what the tuner measured, expected and chose")] = False,
    patience: Annotated[float, typer.Option(min=0.0, help="seconds to try a lost link again before giving up")] = 30.0,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    token_file: TokenFileOption = None,
    insecure_tokens: InsecureTokensOption = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the text, its tokens and the sums to this file")] = None,
) -> None:
    """Complete a prompt at an endpoint, drafting here. Each token is coloured by where it came from."""
    from cactus_core.errors import InvalidInput
    from cactus_core.sampling import SamplingParams
    from edge.completer import Completer, Drafting
    from edge.credentials import Credentials
    from edge.link import Endpoint
    from edge.tuning.forecasting import Objective

    credentials = Credentials(tls_ca, tls_cert, tls_key, token_file, insecure_tokens)

    take_short_turns()
    if logprobs and json_file is None:
        raise InvalidInput("--logprobs goes into the file of --json; name one")
    seed = secrets.randbits(63) if seed is None else seed
    in_rows = (drafts, block, support) != (None, None, None)
    acceptance = acceptance_for(rule=rule, delta=delta, relaxation=relaxation, strength=strength, budget=budget, in_rows=in_rows)
    plans = plans_of(acceptance, drafts, block, tree, wait)
    most = math.inf if max_bytes_up is None else max_bytes_up
    drafting = Drafting(**plans, objective=Objective(objective), max_bytes_up=most, patience_s=patience, goes_on_alone=alone, ahead=ahead)
    penalties = presence_penalty, frequency_penalty, repetition_penalty
    complete = partial(
        Completer.generate,
        max_tokens=max_tokens,
        sampling=SamplingParams(temperature, top_k, top_p, min_p, *penalties, logit_bias_of(logit_bias or ())),
        seed=seed,
        acceptance=acceptance,
        stop_ids=tuple(stop_id or ()),
        num_top_logprobs=logprobs,
    )
    if plain and lookup:
        raise InvalidInput("--plain drafts nothing and --lookup from the text; give one or the other")
    source = draft or demo_model("draft")
    by: _By = "nothing" if plain else "lookup" if lookup else "model"
    there = Endpoint(*(endpoint or [DEFAULT_ENDPOINT]), padded=padded, credentials=credentials)
    completion = asyncio.run(_generate(prompt, there, source, complete, drafting, by=by, support=support, explain=explain))
    if json_file is not None:
        json_file.write_text(json.dumps({"seed": seed, **completion.as_record()}, indent=1) + "\n", "utf8")


async def _generate(
    prompt: str,
    there: Endpoint,
    source: str,
    complete: Callable[[Completer, Completion], AsyncIterator[Piece | Retraction]],
    drafting: Drafting,
    *,
    by: _By,
    support: int | None,
    explain: bool,
) -> Completion:
    from edge.completer import Completer
    from edge.completion import Completion, Retraction
    from edge.exporting.checkpoint import locate
    from edge.exporting.draft_folder import draft_folder
    from edge.terminal import Terminal
    from edge.tokenizer import Tokenizer

    folder = draft_folder(source) if by == "model" else locate(source)
    tokenizer = Tokenizer.load(folder)
    drafter = _drafter(by, folder, tokenizer.vocab_size, support)
    completion, terminal = Completion(prompt), Terminal(prompt)
    async with there as endpoint:
        async for piece in complete(Completer(endpoint, tokenizer, drafter, drafting), completion):
            if isinstance(piece, Retraction):
                terminal.take_back(piece)
            else:
                terminal.show(piece)
    terminal.show_end(completion)
    if explain:
        terminal.explain(completion)
    return completion


def _drafter(by: _By, folder: Path, vocab_size: int, support: int | None) -> Drafter | None:
    if by == "nothing":
        return None
    if by == "lookup":
        from edge.drafting.ngram_drafter import NgramDrafter

        return NgramDrafter(vocab_size, max_positions=_ANY_LENGTH)
    from edge.drafting.onnx_drafter import DEFAULT_SUPPORT, OnnxDrafter

    return OnnxDrafter.load(folder, support_size=support or DEFAULT_SUPPORT)


def plans_of(acceptance: Acceptance, drafts: int | None, block: int | None, tree: int | None, wait_ms: float | None) -> dict[str, Any]:
    """The plan that flags fix, as `Drafting` takes it; nothing where the tuner is to choose. Raises `InvalidInput` for flags of the other
    family than the rule's.
    """
    from cactus_core.errors import InvalidInput
    from edge.tuning.plan import DEEPEST, FOR_EACH, RowsPlan, TreePlan

    if acceptance.is_coupled and (drafts or block):
        raise InvalidInput("--drafts and --block shape blocks, and the coupled rule takes trees: give --tree, or another --rule")
    if not acceptance.is_coupled and tree:
        raise InvalidInput(f"--tree is for the rule coupled, not {acceptance.rule}: give --drafts and --block")
    if wait_ms is not None and not tree:
        raise InvalidInput("--wait-ms goes with --tree: without it the tuner chooses both")
    if tree:
        return {"tree": TreePlan(tree, DEEPEST, FOR_EACH if wait_ms is None else wait_ms / 1e3)}
    return {"rows": RowsPlan(drafts or 4, block or 6)} if drafts or block else {}


def logit_bias_of(flags: Sequence[str]) -> tuple[tuple[int, float], ...]:
    """What flags such as `42:-1.5` ask for. Raises `InvalidInput` for any other form."""
    from cactus_core.errors import InvalidInput

    pairs = []
    for flag in flags:
        token, _, bias = flag.partition(":")
        try:
            pairs.append((int(token), float(bias)))
        except ValueError:
            raise InvalidInput(f"--logit-bias takes a token id and a number, such as 42:-1.5, not {flag!r}") from None
    return tuple(pairs)


def acceptance_for(
    *,
    in_rows: bool,
    rule: str | None = None,
    delta: float | None = None,
    relaxation: str | None = None,
    strength: float | None = None,
    budget: float | None = None,
) -> Acceptance:
    """As `acceptance_of`, with the family chosen where no `rule` is named: coupled trees, which cost the fewest bytes, unless paths are
    shaped (`in_rows`) or the target is relaxed, which trees know nothing of.
    """
    from cactus_core.rules import COUPLED

    needs_rows = in_rows or (delta, relaxation, budget) != (None, None, None)
    rule = rule or (None if needs_rows else COUPLED)
    return acceptance_of(rule=rule, delta=delta, relaxation=relaxation, strength=strength, budget=budget)


def acceptance_of(
    *,
    rule: str | None = None,
    delta: float | None = None,
    relaxation: str | None = None,
    strength: float | None = None,
    budget: float | None = None,
) -> Acceptance:
    """What the flags of those names ask for. Raises `InvalidInput` or `Unsupported` where they do not hold together."""
    from cactus_core.acceptance import Acceptance
    from cactus_core.errors import InvalidInput
    from cactus_core.rules import DEFAULT_RULE

    if delta is not None and (relaxation, strength) != (None, None):
        raise InvalidInput("--delta stands for --relaxation certified and its --strength; give one or the other")
    if delta is not None:
        relaxation, strength = "certified", delta
    if (relaxation is None) != (strength is None):
        raise InvalidInput("--relaxation and --strength go together; `cactus describe` lists them")
    if relaxation is None and budget is not None:
        raise InvalidInput("--budget needs something to spend it on; try --delta 0.05")
    return Acceptance(rule or DEFAULT_RULE, relaxation or "", strength or 0.0, math.inf if budget is None else budget)


def describe(
    endpoint: EndpointOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    token_file: TokenFileOption = None,
    insecure_tokens: InsecureTokensOption = False,
) -> None:
    """Say what an endpoint serves. Ends with 0 when it is ready, so that it can be used as a health check."""
    from edge.credentials import Credentials
    from edge.link import Endpoint

    credentials = Credentials(tls_ca, tls_cert, tls_key, token_file, insecure_tokens)

    async def ask() -> None:
        async with Endpoint(*(endpoint or [DEFAULT_ENDPOINT]), credentials=credentials) as there:
            served = await there.describe()
            address = there.address
        print(f"{address} serves {served.model}")
        print(f"vocabulary: {served.vocab_size} tokens, tokenizer {served.fingerprint}; longest text: {served.max_positions} tokens")
        print(f"rules: {', '.join(f'{name} ({label})' for name, label in served.rules.items())}")
        print(f"relaxations: {', '.join(f'{name} ({strength})' for name, strength in served.relaxations.items())}")
        print(f"blocks: at most {served.limits.max_rows} x {served.limits.max_length} drafted tokens")

    asyncio.run(ask())


def export(
    source: Annotated[str, typer.Argument(help="checkpoint folder or hub name of a Qwen3 or Llama model")],
    destination: Annotated[Path, typer.Argument(help="folder to write draft.onnx and tokenizer.json into")],
    dtype: Annotated[
        Literal["float16", "float32", "int8", "int4"],
        typer.Option(help="of the stored weights; in 8 bits a draft is some twice as fast and guesses nearly as well, in 4 bits less so"),
    ] = "float16",
    max_positions: Annotated[int | None, typer.Option(min=1, help="longest text; default: the model's, at most 2048")] = None,
) -> None:
    """Turn a checkpoint into a draft for ONNX Runtime."""
    from edge.exporting.export import export as export_draft

    folder = export_draft(source, destination, dtype=dtype, max_positions=max_positions)
    size = sum(path.stat().st_size for path in folder.glob("draft.onnx*"))
    print(f"wrote {folder / 'draft.onnx'} ({size / 1e6:.1f} MB); draft with it by --draft {folder}")
