"""Make lib/base/unicode.h: what the tokenizer has to know about characters.

    pip install tokenizers==0.23.3 unicodedata2==16.0.0
    python dev/make_unicode.py            # rewrites lib/base/unicode.h
    python dev/make_unicode.py --check    # exits with 1 if it is not what this script makes

GPT-2's pre-token pattern knows \\p{L}, \\p{N} and \\s; all else is "other". The ranges come from the Unicode Character
Database as unicodedata2 carries it (the package's version is the database's version). A new Unicode version
adds letters and so changes how texts are cut, hence the version is not ours to choose: it must be the one
inside the `tokenizers` library, which `transformers` uses. The script asks that library about every code point
and refuses to write a table that differs anywhere.

The other parts of the library carry other versions of Unicode (its normal forms an old one, lower case and Digits a
newer one). So those tables are the library's own answers for every code point, and the database only says how a
decomposition is built up. `normal_form` below computes the normal forms from the tables as lib/base/normalizer.h does;
its answers are compared with the library's for every code point and for random strings.
"""
import os
import random
import sys

import tokenizers
import unicodedata2
from tokenizers import normalizers, pre_tokenizers

HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib", "base", "unicode.h")

# \s is the property White_Space (PropList.txt), the same set since Unicode 6.3; unicodedata2 does not have it.
WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
               0x205F, 0x3000}

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]  # surrogates are not characters
HANGUL = range(0xAC00, 0xAC00 + 11172)  # syllables, decomposed and composed by arithmetic


def class_from_database(c):
    """'L', 'N', 'S' or 'O' (other) of code point c by the Unicode Character Database."""
    if c in WHITE_SPACE:
        return "S"
    major = unicodedata2.category(chr(c))[0]
    return major if major in "LN" else "O"


def class_from_tokenizers(c, splitter=pre_tokenizers.ByteLevel(add_prefix_space=False)):
    """The same as the tokenizers library sees it: c joins a run of its own class and no other."""
    joins = [name for name, first in (("L", "a"), ("N", "1"), ("O", "!"))
             if len(splitter.pre_tokenize_str(first + chr(c))) == 1]
    assert len(joins) <= 1
    return joins[0] if joins else "S"


def ranges(classes):
    """[(first, last, class)] for all code points whose class is not "O" or 0, in order."""
    out = []
    for c in CODE_POINTS:
        k = classes[c]
        if k in ("O", 0):
            continue
        if out and out[-1][2] == k and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c, k])
    return out


def is_word(c, tokenizer=[]):
    """True if the library's \\w has c: then an added token with single_word is not found right before it."""
    if not tokenizer:
        tokenizer.append(tokenizers.Tokenizer(tokenizers.models.BPE()))
        tokenizer[0].add_tokens([tokenizers.AddedToken("<x>", single_word=True)])
    return not tokenizer[0].encode("<x>" + chr(c)).ids


def is_numeric(c, splitter=pre_tokenizers.Digits(individual_digits=True)):
    """True if the library's Digits cuts c out."""
    return len(splitter.pre_tokenize_str("a" + chr(c))) == 2


def lower_ranges():
    """[(first, last, step, difference)]: every step-th code point from first to last + difference is lower case.
    U+0130 is missing: it is the only one that becomes two code points."""
    lower, out = normalizers.Lowercase(), []
    for c in CODE_POINTS:
        small = lower.normalize_str(chr(c))
        if small == chr(c):
            continue
        if len(small) > 1:
            assert (c, small) == (0x130, "i\u0307")
            continue
        difference = ord(small) - c
        if out and out[-1][3] == difference and c - out[-1][1] in ((1, 2) if out[-1][2] == 0 else (out[-1][2],)):
            out[-1][2] = c - out[-1][1]
            out[-1][1] = c
        else:
            out.append([c, c, 0, difference])
    return [(first, last, step or 1, difference) for first, last, step, difference in out]


def combining_classes():
    """{code point: canonical combining class} as the library orders marks by it."""
    nfd = normalizers.NFD()
    out = {c: 0 for c in CODE_POINTS}
    for c in CODE_POINTS:
        k = unicodedata2.combining(chr(c))
        # A mark that the library knows goes before U+0345, of class 240, the highest there is.
        if k and (k == 240 or nfd.normalize_str("\u0345" + chr(c))[-1] == "\u0345"):
            out[c] = k
    return out


def decompositions():
    """[(code point, is it a compatibility decomposition, its parts)], one step each."""
    nfd, nfkd, out = normalizers.NFD(), normalizers.NFKD(), []
    for c in CODE_POINTS:
        if c in HANGUL or nfkd.normalize_str(chr(c)) == chr(c):
            continue
        parts = unicodedata2.decomposition(chr(c)).split()
        compatible = parts[0].startswith("<")
        assert compatible == (nfd.normalize_str(chr(c)) == chr(c))
        out.append((c, compatible, [int(part, 16) for part in parts[compatible:]]))
    return out


def compositions(table):
    """[(first, second, composed)] in order."""
    nfc = normalizers.NFC()
    return sorted((*parts, c) for c, compatible, parts in table if not compatible and len(parts) == 2
                  and nfc.normalize_str("".join(map(chr, parts))) == chr(c))


def normal_form(text, compatible, compose, table, composed, classes):
    """A normal form from the tables, as lib/base/normalizer.h computes it."""
    out = []

    def put(c):
        if c in HANGUL:
            c -= HANGUL[0]
            out.extend([0x1100 + c // 588, 0x1161 + c % 588 // 28] + ([0x11A7 + c % 28] if c % 28 else []))
        elif c in table and (compatible or not table[c][0]):
            for part in table[c][1]:
                put(part)
        else:
            out.append(c)

    for c in text:
        put(ord(c))
    for i in range(1, len(out)):  # marks in the order of their classes
        k, c = i, out[i]
        while classes[c] and k > 0 and classes[out[k - 1]] > classes[c]:
            out[k] = out[k - 1]
            k -= 1
        out[k] = c
    if not compose:
        return "".join(map(chr, out))
    starter, last, n = -1, 0, 0
    for c in out:
        pair = None
        if starter >= 0 and (last < classes[c] or (last == 0 and n == starter + 1)):
            s = out[starter]
            if 0x1100 <= s < 0x1113 and 0x1161 <= c < 0x1176:
                pair = HANGUL[0] + ((s - 0x1100) * 21 + c - 0x1161) * 28
            elif s in HANGUL and (s - HANGUL[0]) % 28 == 0 and 0x11A7 < c < 0x11C3:
                pair = s + c - 0x11A7
            else:
                pair = composed.get((s, c))
        if pair is not None:
            out[starter] = pair
            continue
        if classes[c] == 0:
            starter = n
        last = classes[c]
        out[n] = c
        n += 1
    return "".join(map(chr, out[:n]))


def check_normal_forms(table, pairs, classes):
    """Exit if the tables do not give the library's normal forms."""
    table, composed = {c: (k, parts) for c, k, parts in table}, {(a, b): c for a, b, c in pairs}
    rng = random.Random(1)
    busy = [*table, *(c for c in CODE_POINTS if classes[c]), *HANGUL[::500], *range(0x1100, 0x1200), *range(0x41, 0x5B),
            *range(0x11A0, 0x11D0), *(b for _, b, _ in pairs), *(a for a, _, _ in pairs)]
    texts = [chr(c) for c in CODE_POINTS] + [f"a{chr(c)}\u0301\u0323" for c in busy]
    texts += ["".join(chr(rng.choice(busy)) for _ in range(rng.randint(2, 8))) for _ in range(300000)]
    for compatible, compose, form in ((False, False, "NFD"), (True, False, "NFKD"), (False, True, "NFC"),
                                      (True, True, "NFKC")):
        library = getattr(normalizers, form)()
        for text in texts:
            got = normal_form(text, compatible, compose, table, composed, classes)
            if got != library.normalize_str(text):
                sys.exit(f"{form} of {text!a}: {got!a}, tokenizers has {library.normalize_str(text)!a}")


def array(declaration, cells):
    """A C array of these initialisers, in rows of 100 characters."""
    rows, line = [], "   "
    for cell in cells:
        if len(line) + len(cell) + 2 > 100:
            rows.append(line)
            line = "   "
        line += f" {cell},"
    rows.append(line)
    return f"static const {declaration}[{len(cells)}] = {{\n{chr(10).join(rows)}\n}};\n"


def header(kinds, words, numbers, lower, classes, table, pairs):
    version, pool, starts = unicodedata2.unidata_version, [], []
    for c, compatible, parts in table:
        starts.append("{0x%X, %d, %d, %d}" % (c, len(pool), len(parts), compatible))
        pool += parts
    return f"""\
// unicode.h: letters, numbers and white space of Unicode {version}, lower case and normal forms.
// Generated by dev/make_unicode.py (--check compares); do not edit. {version} is the version that
// tokenizers {tokenizers.__version__}, the library behind `transformers`, implements in GPT-2's pattern: all {len(CODE_POINTS)} code
// points were compared with it. The other tables are that library's answers, of whatever version.
#ifndef UNICODE_H
#define UNICODE_H

#include <stdint.h>

typedef struct {{
    uint32_t first, last; // code points, both ends included
    char kind;            // 'L': \\p{{L}}, 'N': \\p{{N}}, 'S': White_Space; others: see the table
}} UnicodeRange;

// Lower case: every step-th code point from first to last has its small letter `difference` later.
typedef struct {{
    uint32_t first, last;
    int step, difference;
}} UnicodeLower;

// A code point that stands for others: `count` of them in unicode_parts, from `start` on, which may
// be taken apart again. `compatible`: only in NFKC and NFKD.
typedef struct {{
    uint32_t code;
    uint16_t start;
    unsigned char count, compatible;
}} UnicodeParts;

// Two code points that NFC and NFKC make one.
typedef struct {{
    uint32_t first, second, composed;
}} UnicodePair;

// clang-format off
{array("UnicodeRange unicode_ranges", ["{0x%X, 0x%X, '%s'}" % tuple(r) for r in kinds])}
// 'W': the characters of \\w, by which an added token with single_word is found or not.
{array("UnicodeRange unicode_words", ["{0x%X, 0x%X, '%s'}" % tuple(r) for r in words])}
// 'D': digits to the pre-tokenizer Digits that are not of kind 'N' above.
{array("UnicodeRange unicode_digits", ["{0x%X, 0x%X, '%s'}" % tuple(r) for r in numbers])}
{array("UnicodeLower unicode_lower", ["{0x%X, 0x%X, %d, %d}" % r for r in lower])}
// `kind` is the canonical combining class, as an unsigned char.
{array("UnicodeRange unicode_marks", ["{0x%X, 0x%X, (char)%d}" % tuple(r) for r in classes])}
{array("UnicodeParts unicode_decompositions", starts)}
{array("uint32_t unicode_parts", ["0x%X" % c for c in pool])}
{array("UnicodePair unicode_pairs", ["{0x%X, 0x%X, 0x%X}" % p for p in pairs])}// clang-format on

#endif
"""


def main():
    from_database = {c: class_from_database(c) for c in CODE_POINTS}
    different = [c for c in CODE_POINTS if class_from_tokenizers(c) != from_database[c]]
    if different:
        sys.exit(f"tokenizers {tokenizers.__version__} does not implement Unicode {unicodedata2.unidata_version}: "
                 f"{len(different)} code points differ, the first is U+{different[0]:04X}")
    numeric = {c: is_numeric(c) for c in CODE_POINTS}
    assert all(numeric[c] for c in CODE_POINTS if from_database[c] == "N")
    classes, table = combining_classes(), decompositions()
    pairs = compositions(table)
    check_normal_forms(table, pairs, classes)
    text = header(ranges(from_database), ranges({c: "W" if is_word(c) else "O" for c in CODE_POINTS}),
                  ranges({c: "D" if numeric[c] and from_database[c] != "N" else "O" for c in CODE_POINTS}),
                  lower_ranges(), ranges(classes), table, pairs)
    if "--check" in sys.argv[1:]:
        with open(HEADER, encoding="utf-8") as file:
            if file.read() != text:
                sys.exit("unicode.h differs from what dev/make_unicode.py makes")
        print("unicode.h is up to date")
    else:
        with open(HEADER, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
