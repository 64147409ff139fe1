"""Write a GPT-2 checkpoint directory with random weights, as transformers writes it.

    python dev/make_gpt2.py DIR --size gpt2 --vocab-dir GPT2_TOKENIZER
    python dev/make_gpt2.py DIR --size tiny --dtype bfloat16 --max-shard-size 200KB --with-mask-buffers

For tests and comparisons on a machine that has no real weights. Dropout is 0 in config.json. --vocab-dir names a
folder with vocab.json and merges.txt; they are copied beside the tokenizer files that transformers itself writes
(version 5 writes tokenizer.json only), and the vocabulary's size and end-of-text id go into the config.

The odd forms that a reader has to accept: --dtype, --max-shard-size (several files and an index), --bare-names (no
"transformer." prefix, as the original gpt2 has it), --with-mask-buffers (the causal masks that old versions stored).
"""
import argparse
import json
import os
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

# n_layer, n_head, n_embd, n_positions
SIZES = {
    "tiny": (2, 4, 64, 128),
    "small": (4, 4, 128, 256),
    "gpt2": (12, 12, 768, 1024),
    "medium": (24, 16, 1024, 1024),
    "large": (36, 20, 1280, 1024),
    "xl": (48, 25, 1600, 1024),
}


def roughen(model, seed):
    """GPT-2's own initialisation leaves biases at 0, LayerNorm at 1 and predictions nearly uniform, which hides
    mistakes. This moves every tensor, and makes the embeddings, so the logits too, of a trained model's size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith("wte.weight"):
                p.copy_(0.12 * noise)
            elif p.dim() == 1 or name.endswith("wpe.weight"):
                p.add_(0.1 * noise)
            else:
                p.mul_(2)


def make(directory, size="gpt2", vocab_dir=None, dtype="float32", max_shard_size="50GB", bare_names=False,
         with_mask_buffers=False, score_head=False, rough=False, seed=1, **overrides):
    """Writes the directory and returns the model (in `dtype`). `overrides` are further config values, as n_inner."""
    sizes = dict(zip(("n_layer", "n_head", "n_embd", "n_positions"), SIZES[size]))
    vocab_size, eos = 50257, 50256
    if vocab_dir:
        vocab_file, merges_file = (os.path.join(vocab_dir, f) for f in ("vocab.json", "merges.txt"))
        tokenizer = transformers.GPT2Tokenizer(vocab_file, merges_file, model_max_length=sizes["n_positions"])
        vocab_size, eos = len(tokenizer), tokenizer.eos_token_id
        tokenizer.save_pretrained(directory)
        for f in (vocab_file, merges_file):
            shutil.copyfile(f, os.path.join(directory, os.path.basename(f)))
    sizes.update(vocab_size=vocab_size, bos_token_id=eos, eos_token_id=eos)
    if score_head:
        sizes.update(num_labels=1, pad_token_id=eos)
    sizes.update(overrides)
    config = transformers.GPT2Config(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, summary_first_dropout=0.0,
                                     **sizes)
    torch.manual_seed(seed)
    kind = transformers.GPT2ForSequenceClassification if score_head else transformers.GPT2LMHeadModel
    model = kind(config).eval()
    if rough:
        roughen(model, seed)
    model.to(getattr(torch, dtype))
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    if bare_names or with_mask_buffers:
        rewrite(directory, config, bare_names, with_mask_buffers)
    return model


def rewrite(directory, config, bare_names, with_mask_buffers):
    """Renames tensors and adds the old mask buffers in every weight file, and in the index if there is one."""
    index_file = os.path.join(directory, "model.safetensors.index.json")
    weight_map, total = {}, 0
    for name in sorted(f for f in os.listdir(directory) if f.endswith(".safetensors")):
        path = os.path.join(directory, name)
        old = load_file(path)
        new = {}
        for key, tensor in old.items():
            short = key.removeprefix("transformer.")
            full = short if bare_names else key
            new[full] = tensor
            if with_mask_buffers and short.endswith(".attn.c_attn.weight"):
                layer = full.removesuffix("c_attn.weight")
                n = config.n_positions
                new[layer + "bias"] = torch.ones(n, n, dtype=torch.uint8).tril().view(1, 1, n, n)
                new[layer + "masked_bias"] = torch.tensor(-1e4)
        save_file(new, path, metadata={"format": "pt"})
        weight_map.update((key, name) for key in new)
        total += sum(t.numel() * t.element_size() for t in new.values())
    if os.path.exists(index_file):
        with open(index_file, "w") as f:
            json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, f, indent=2, sort_keys=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--size", choices=SIZES, default="gpt2")
    parser.add_argument("--vocab-dir", help="folder with vocab.json and merges.txt")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--max-shard-size", default="50GB")
    parser.add_argument("--bare-names", action="store_true")
    parser.add_argument("--with-mask-buffers", action="store_true")
    parser.add_argument("--score-head", action="store_true", help="GPT2ForSequenceClassification with one label")
    parser.add_argument("--rough", action="store_true", help="move every tensor, predictions far from uniform")
    parser.add_argument("--seed", type=int, default=1)
    made = make(**vars(parser.parse_args()))
    print(f"{sum(p.numel() for p in made.parameters()):,} parameters")
