"""Trains the demo pair from the text of the Python standard library, on a CPU, in about an hour and a half on two cores.

    python models/demo/train.py target     # tokenizer and target: writes target/
    python models/demo/train.py draft --tokens 7e6 # distils the draft from target/: writes draft/
    python models/demo/train.py paths --tokens 1.7e6  # tunes the draft for several paths at once
    python models/demo/train.py measure    # held-out loss of the target, held-out overlap of the draft: writes figures.json

The text is the `*.py` files of the interpreter that runs this script (PSF-2.0 licence), without its tests. One document in
twenty is held out. Needs the `cloud` extra; knows nothing of the packages beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).parent
VOCAB_SIZE = 4096
WINDOW = 512
WINDOWS_PER_STEP = 8
END_OF_TEXT, PADDING = "<|endoftext|>", "<|pad|>"
LEFT_OUT = {
    "site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__", "ensurepip", "turtledemo", "encodings", "msilib", "idlelib",
}  # fmt: skip
# GPT-4's split of text into words; BPE never merges across it.
WORDS = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


# --- text ---------------------------------------------------------------------------------------------------------------


def documents() -> tuple[list[str], list[str]]:
    """The training and the held-out documents: library modules, and the language reference's topics one by one."""
    library = Path(sysconfig.get_paths()["stdlib"])
    texts: list[str] = []
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if LEFT_OUT.intersection(relative.parts) or any(part.startswith("config-") for part in relative.parts):
            continue
        try:
            text = path.read_text("utf8")
        except UnicodeDecodeError:
            continue
        if relative.as_posix() == "pydoc_data/topics.py":
            namespace: dict[str, dict[str, str]] = {}
            exec(text, namespace)  # noqa: S102  # the interpreter's own file: a dict of strings
            texts += [topic.replace("\n   ", "\n") for topic in namespace["topics"].values()]
        else:
            texts.append(text)
    random.Random(0).shuffle(texts)  # noqa: S311  # a fixed split, not a secret
    cut = len(texts) * 19 // 20
    return texts[:cut], texts[cut:]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """All documents as one row of ids `[N]`, each after an end-of-text token."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    return torch.from_numpy(np.concatenate([np.array([end, *e.ids]) for e in tokenizer.encode_batch(texts)]))


def windows(ids: Tensor, num_steps: int) -> Iterator[Tensor]:
    """Batches `[WINDOWS_PER_STEP, WINDOW + 1]`: every window once an epoch, in a new order and at a new offset each time."""
    generator = torch.Generator().manual_seed(1)
    order, start = torch.empty(0, dtype=torch.long), 0
    for _ in range(num_steps):
        if len(order) < WINDOWS_PER_STEP:
            start = int(torch.randint(0, WINDOW, (1,), generator=generator))
            order = torch.randperm((len(ids) - start - 1) // WINDOW, generator=generator)
        now, order = order[:WINDOWS_PER_STEP], order[WINDOWS_PER_STEP:]
        yield torch.stack([ids[start + i * WINDOW :][: WINDOW + 1] for i in now.tolist()])


def held_out_windows(ids: Tensor, count: int) -> Iterator[Tensor]:
    for i in range(count):
        start = i * (len(ids) - WINDOW - 1) // max(count - 1, 1)
        yield ids[start : start + WINDOW + 1][None]


# --- models -------------------------------------------------------------------------------------------------------------


def new_model(num_layers: int) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCAB_SIZE, hidden_size=256, num_hidden_layers=num_layers, intermediate_size=704, num_attention_heads=8,
            num_key_value_heads=4, head_dim=32, tie_word_embeddings=True, max_position_embeddings=2048,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=0, eos_token_id=0, pad_token_id=1,
            use_cache=False,
        )
    )  # fmt: skip


def draft_from(target: Qwen3ForCausalLM, layers: tuple[int, ...]) -> Qwen3ForCausalLM:
    """A shallower model that starts from the target's embedding, norm and the named layers: most of the way is walked."""
    draft = new_model(len(layers))
    draft.model.embed_tokens.load_state_dict(target.model.embed_tokens.state_dict())
    draft.model.norm.load_state_dict(target.model.norm.state_dict())
    for i, layer in enumerate(layers):
        draft.model.layers[i].load_state_dict(target.model.layers[layer].state_dict())
    return draft


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(ids, use_cache=False).logits.float()


def next_token_loss(model: nn.Module, batch: Tensor) -> Tensor:
    return F.cross_entropy(logits(model, batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


def divergence(draft_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Mean KL(target || draft) in nats: a smooth way towards the target."""
    draft, target = F.log_softmax(draft_logits, -1), F.log_softmax(target_logits, -1)
    return (target.exp() * (target - draft)).sum(-1).mean()


def missed_overlap(draft_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Mean total variation, 1 - sum min(p, q): what speculative sampling rejects, which is what we want least of."""
    return 0.5 * (F.softmax(draft_logits, -1) - F.softmax(target_logits, -1)).abs().sum(-1).mean()


def missed_coverage(draft_logits: Tensor, target_logits: Tensor, num_paths: int) -> Tensor:
    """Mean of 1 - sum min(q, 1 - (1-p)^m): the target's mass that m paths together cannot reach at one place."""
    reached = 1 - (1 - F.softmax(draft_logits, -1)).pow(num_paths)
    return 1 - torch.minimum(F.softmax(target_logits, -1), reached).sum(-1).mean()


def optimise(model: nn.Module, loss_of: object, ids: Tensor, num_tokens: float, peak: float, name: str) -> None:
    """Muon for matrices, AdamW for the rest; warm up, hold, and decay to zero over the last six tenths."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02 * peak, momentum=0.95, weight_decay=0.05),
        torch.optim.AdamW(others, lr=3e-3 * peak, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    base = [[group["lr"] for group in o.param_groups] for o in optimizers]
    num_steps = math.ceil(num_tokens / (WINDOW * WINDOWS_PER_STEP))
    bar = tqdm(windows(ids, num_steps), total=num_steps, desc=name, mininterval=10, file=sys.stderr)
    for step, batch in enumerate(bar):
        done = step / num_steps
        scale = min(1.0, (step + 1) / 30) * min(1.0, max(0.02, (1 - done) / 0.6))
        for optimizer, rates in zip(optimizers, base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * scale
        loss = loss_of(batch, done)  # type: ignore[operator]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")


def save(model: Qwen3ForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    model.half().save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=PADDING, model_max_length=2048
    ).save_pretrained(folder)


# --- verbs --------------------------------------------------------------------------------------------------------------


def target(args: argparse.Namespace) -> None:
    texts, _ = documents()
    tokenizer = train_tokenizer(texts)
    model = new_model(6)
    compiled = torch.compile(next_token_loss) if args.compile else next_token_loss
    optimise(model, lambda batch, _: compiled(model, batch), encode(tokenizer, texts), args.tokens, 1.0, "target")
    save(model, tokenizer, args.out / "target")


def draft(args: argparse.Namespace) -> None:
    teacher = Qwen3ForCausalLM.from_pretrained(args.out / "target", dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = Tokenizer.from_file(str(args.out / "target" / "tokenizer.json"))
    model = draft_from(teacher, (0, 5)).train().requires_grad_(True)

    def loss(batch: Tensor, *, overlap_only: bool) -> Tensor:
        ours, theirs = logits(model, batch[:, :-1]), logits(teacher, batch[:, :-1])
        return missed_overlap(ours, theirs) if overlap_only else divergence(ours, theirs)

    compiled = torch.compile(loss) if args.compile else loss
    ids = encode(tokenizer, documents()[0])
    optimise(model, lambda batch, done: compiled(batch, overlap_only=done > 0.4), ids, args.tokens, 0.7, "draft")
    save(model, tokenizer, args.out / "draft")


def paths(args: argparse.Namespace) -> None:
    """Tunes the draft for several paths: half for one path left, half for four, which want a heavier tail."""
    teacher = Qwen3ForCausalLM.from_pretrained(args.out / "target", dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = Tokenizer.from_file(str(args.out / "target" / "tokenizer.json"))
    model = Qwen3ForCausalLM.from_pretrained(args.out / "draft", dtype=torch.float32).train()

    def loss(batch: Tensor) -> Tensor:
        ours, theirs = logits(model, batch[:, :-1]), logits(teacher, batch[:, :-1])
        return 0.5 * missed_overlap(ours, theirs) + 0.5 * missed_coverage(ours, theirs, 4)

    compiled = torch.compile(loss) if args.compile else loss
    optimise(model, lambda batch, _: compiled(batch), encode(tokenizer, documents()[0]), args.tokens, 0.2, "paths")
    save(model, tokenizer, args.out / "draft")


@torch.no_grad()
def measure(args: argparse.Namespace) -> None:
    """Held-out figures of the files as saved: the target's loss, the draft's loss, and the overlap sum min(p, q) at temperature 1."""
    tokenizer = Tokenizer.from_file(str(args.out / "target" / "tokenizer.json"))
    pair = [
        Qwen3ForCausalLM.from_pretrained(args.out / n, dtype=torch.float32).eval() for n in ("target", "draft") if (args.out / n).exists()
    ]
    rows = []
    for batch in held_out_windows(encode(tokenizer, documents()[1]), 200):
        out = [model(batch[:, :-1], use_cache=False).logits for model in pair]
        losses = [F.cross_entropy(o[0], batch[0, 1:]).item() for o in out]
        rows.append([*losses, 1 - missed_overlap(out[-1], out[0]).item()])
    mean, error = np.mean(rows, 0), np.std(rows, 0) / math.sqrt(len(rows))
    names = ["target_loss_nats", "draft_loss_nats", "overlap"] if len(pair) == 2 else ["target_loss_nats", "overlap"]
    figures = {n: {"value": round(float(m), 4), "standard_error": round(float(e), 4)} for n, m, e in zip(names, mean, error, strict=True)}
    figures["parameters"] = {n: sum(p.numel() for p in m.parameters()) for n, m in zip(("target", "draft"), pair, strict=False)}
    figures["python"] = sys.version.split()[0]  # type: ignore[assignment]
    (args.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["target", "draft", "paths", "measure"])
    parser.add_argument("--tokens", type=float, default=10e6, help="training tokens (default: %(default).0f)")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="needs a C++ compiler; 1.3x as fast")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    start = time.monotonic()
    {"target": target, "draft": draft, "paths": paths, "measure": measure}[args.verb](args)
    print(f"{args.verb}: {(time.monotonic() - start) / 60:.1f} min")


if __name__ == "__main__":
    main()
