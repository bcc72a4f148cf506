"""Reading a target from a directory or the hub by `transformers`' own code, and refusing what cannot be served.

Knows checkpoints and what may be wrong with them; knows nothing of how a model is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from cactus_core.errors import CactusError, InvalidInput, Unavailable, Unsupported
from cloud.attention import IMPLEMENTATION

WORKS = "serve a decoder with full attention in every layer, such as Llama, Qwen2, Qwen3 or Mistral 0.3"


def load_checkpoint(name_or_path: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, set to our attention, and its tokenizer. Raises what `TargetModel.load` says."""
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
            _refuse_unservable(config)
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
            model, found = AutoModelForCausalLM.from_pretrained(
                name_or_path,
                config=config,
                dtype=dtype,
                attn_implementation=IMPLEMENTATION,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise _load_error(name_or_path, error) from error
    if found["missing_keys"]:  # transformers would fill them with noise and serve that
        missing = sorted(found["missing_keys"])
        raise InvalidInput(f"{name_or_path} lacks {len(missing)} weights, such as {missing[0]}; fetch it again")
    return model, tokenizer


def _refuse_unservable(config: PreTrainedConfig) -> None:
    """Raises `Unsupported` for what the configuration shows: memory that cannot be rolled back, or other attention."""
    name, text = config.model_type, config.get_text_config()
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise Unsupported(f"{name} is not a causal language model; {WORKS}")
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    layer_types = getattr(text, "layer_types", None)
    others = sorted(set(layer_types or ()) - {"full_attention"})
    if model_class._is_stateful:  # noqa: SLF001  # what transformers has to tell it by
        others = others or ["recurrent"]
    elif layer_types is None and getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        others = ["sliding_attention"]
    if others:
        raise Unsupported(f"this {name} has layers that cannot be rolled back: {', '.join(others)}; {WORKS}")
    if not model_class._supports_attention_backend:  # noqa: SLF001  # as above
        raise Unsupported(f"{name} computes attention in a way of its own; {WORKS}")


def _load_error(name: str, error: Exception) -> CactusError:
    """One line for what `transformers` says in many, by what caused it."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    first_line = str(error).split("\n")[0]
    if any(isinstance(cause, HFValidationError) for cause in causes):
        return InvalidInput(f"no model at {name}: give a directory that holds one, or a hub name like Qwen/Qwen3-0.6B")
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):  # a gated one included
        return InvalidInput(f"the hub has no {name} that you may read: check the name, or log in with `hf auth login`")
    if any(isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled | ConnectionError) for cause in causes):
        return Unavailable(f"cannot reach the hub for {name}: check the network, or give a directory of the model's")
    return InvalidInput(f"cannot load the model {name}: {first_line}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences `transformers` while it loads, all but the bars of a download, for which a person waits."""
    verbosity = logging.get_verbosity()
    hook = logging.set_tqdm_hook(lambda factory, args, kwargs: factory(*args, **{**kwargs, "disable": True}))
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.set_tqdm_hook(hook)
