"""Make vocab.json and merges.txt, the small GPT-2-format vocabulary of the default data.

    python data/make_vocab.py        (needs the package `tokenizers`; writes the files in data/)

A byte-level BPE is trained on reviews_train.jsonl, with the 256 bytes first and <|endoftext|> last,
as in GPT-2's own files. It grows until every word of the training file is one token.
"""

import collections
import json
import pathlib

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

END = "<|endoftext|>"
DATA = pathlib.Path(__file__).parent


def gpt2_byte_glyphs():
    """The character for each byte in GPT-2's order: printable bytes first, then the others."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    glyph = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in glyph]
    glyph.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return [glyph[byte] for byte in printable + others]


def train(texts):
    """A BPE of the texts that has merged all that can be merged: every word is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=10000, min_frequency=1, show_progress=False, initial_alphabet=gpt2_byte_glyphs()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main():
    rows = [json.loads(line) for line in open(DATA / "reviews_train.jsonl", encoding="utf-8")]
    texts = [row["prompt"] + row["completion"] for row in rows]
    tokenizer = train(texts)
    words = collections.Counter(
        word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)
    )
    pieces = sum(len(tokenizer.model.tokenize(word)) > 1 for word in words)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]

    # GPT-2's order of ids: bytes, one id per merge, the end of text.
    names = gpt2_byte_glyphs() + [merge.replace(" ", "") for merge in merges] + [END]
    assert len(set(names)) == len(names) == len(model["vocab"]) + 1
    vocab = {name: i for i, name in enumerate(names)}
    with open(DATA / "vocab.json", "w", encoding="utf-8") as file:
        json.dump(vocab, file, ensure_ascii=False)
    with open(DATA / "merges.txt", "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + "\n".join(merges) + "\n")
    tokens = sum(words[word] * len(tokenizer.model.tokenize(word)) for word in words)
    print(f"{len(vocab)} tokens for {len(words)} words, {pieces} of them in pieces")
    print(f"{tokens / len(texts):.2f} tokens a review, rarest word {min(words.values())} times")


if __name__ == "__main__":
    main()
