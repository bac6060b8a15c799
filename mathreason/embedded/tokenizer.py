"""The embedded model's tokenizer: byte-level BPE that can write any text and gives every digit its own token.

    tokenizer = train_tokenizer(texts)      # a transformers PreTrainedTokenizerFast
    tokenizer.tokenize("Tom has 12 apples.")
    ["T", "om", "Ġhas", "Ġ", "1", "2", "Ġapples", "."]

Digits stand alone so that sums are learned digit by digit instead of once per number (as in Llama 2:
https://arxiv.org/abs/2307.09288, section 2.2). There is no chat template and no token is added by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1024
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
MAX_LENGTH = 2048


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train on `texts`; the same texts give the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
