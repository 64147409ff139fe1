"""Make vocab.json and merges.txt in GPT-2's format. Needs the package `tokenizers`.

    python data/make_vocab.py                                         the small vocabulary of the default data
    python data/make_vocab.py data/stories REAL/books REAL/imdb       8,192 tokens for real English

A byte-level BPE, with the 256 bytes first and <|endoftext|> last, as in GPT-2's own files. Without arguments
it is trained on data/reviews_train.jsonl and grows until every word of that file is one token. With them it
is trained on the folders of books and IMDb reviews that data/fetch.sh makes (train.txt; train.jsonl and
unsup.jsonl; packed by gzip or not) and stops at 8,192 tokens. Held-out texts are not read.
"""

import collections
import gzip
import json
import pathlib
import sys

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


def train(texts, tokens, rarest):
    """A BPE of at most so many tokens, whose merges have been seen `rarest` times or more."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, min_frequency=rarest, show_progress=False, initial_alphabet=gpt2_byte_glyphs()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer, directory):
    """Write the files with GPT-2's order of ids: bytes, one id per merge, the end of text."""
    model = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    names = gpt2_byte_glyphs() + [merge.replace(" ", "") for merge in merges] + [END]
    assert len(set(names)) == len(names) == len(model["vocab"]) + 1
    vocab = {name: i for i, name in enumerate(names)}
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "vocab.json", "w", encoding="utf-8") as file:
        json.dump(vocab, file, ensure_ascii=False)
    with open(directory / "merges.txt", "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + "\n".join(merges) + "\n")
    return len(vocab)


def small_vocabulary():
    """Every word of the default data is one token."""
    rows = [json.loads(line) for line in open(DATA / "reviews_train.jsonl", encoding="utf-8")]
    texts = [row["prompt"] + row["completion"] for row in rows]
    tokenizer = train(texts, 10000, 1)
    words = collections.Counter(
        word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)
    )
    pieces = sum(len(tokenizer.model.tokenize(word)) > 1 for word in words)
    size = save(tokenizer, DATA)
    tokens = sum(words[word] * len(tokenizer.model.tokenize(word)) for word in words)
    print(f"{size} tokens for {len(words)} words, {pieces} of them in pieces")
    print(f"{tokens / len(texts):.2f} tokens a review, rarest word {min(words.values())} times")


def lines(folder, name):
    """The lines of a text file of a folder, which may be packed."""
    path = folder / name
    packed = folder / (name + ".gz")
    with gzip.open(packed, "rt", encoding="utf-8") if packed.exists() else open(path, encoding="utf-8") as file:
        yield from file


def real_texts(books, imdb):
    """The training texts of books and reviews, line by line and review by review."""
    yield from lines(books, "train.txt")
    for name in "train.jsonl", "unsup.jsonl":
        for line in lines(imdb, name):
            yield json.loads(line)["text"]


def real_vocabulary(directory, books, imdb):
    """The most useful 7,935 merges of real English."""
    tokenizer = train(real_texts(books, imdb), 8191, 2)
    size = save(tokenizer, directory)
    print(f"{size} tokens")
    for name, texts in ("books", lines(books, "eval.txt")), ("reviews", map(lambda l: json.loads(l)["text"], lines(imdb, "test.jsonl"))):
        characters = tokens = 0
        for i, text in enumerate(texts):
            if i == 5000:
                break
            characters += len(text)
            tokens += len(tokenizer.encode(text).ids)
        print(f"{name}: {characters / tokens:.2f} characters a token on held-out text")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        small_vocabulary()
    elif len(sys.argv) == 4:
        real_vocabulary(*map(pathlib.Path, sys.argv[1:]))
    else:
        sys.exit(__doc__)
