// Tests of common.h and json.h: text, UTF-8, strict JSON, random numbers, batches, the log.
#include "test.h"
#include "../batch.h"
#include "../lib/base/json.h"
#include <fcntl.h>

static char root[] = "/tmp/align_common_XXXXXX"; // a directory for this run's files

static char *in_root(const char *name) { return path_join(root, name); }

static void write_file(const char *path, const char *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n, file) != n || fclose(file))
        die(EXIT_IO, "%s: cannot write", path);
}

// ------------------------------------------------------------------------------------------------
// Errors, memory, text, files

static void test_errors(void) {
    CHECK_DIES(EXIT_USAGE, "error: a 1\n", die(EXIT_USAGE, "a %d", 1));
    CHECK_DIES(EXIT_DIVERGED, "error: loss is nan\n", die(EXIT_DIVERGED, "loss is %g", NAN));
    CHECK_DIES(0, "warning: b\n", warn("b"));
    // A name from a file may hold anything: the message stays one line, the terminal unharmed.
    CHECK_DIES(EXIT_IO, "error: a?b?[31mc\xC3\xA9?\n",
               die(EXIT_IO, "%s", "a\nb\033[31mc\xC3\xA9\x7F"));
    char *big = mem_alloc(3001, 1);
    memset(big, 'x', 3000);
    CHECK_DIES(EXIT_IO, "error: xxxx", die(EXIT_IO, "%s", big));
    free(big);
}

static void test_memory(void) {
    CHECK_DIES(EXIT_IO, "out of memory: 9223372036854775807 items of 3 bytes",
               size_product(PTRDIFF_MAX, 3));
    CHECK_DIES(EXIT_IO, "out of memory", mem_alloc(SIZE_MAX / 4, 8));
    CHECK_DIES(EXIT_IO, "out of memory", mem_alloc(SIZE_MAX, 1)); // more than a pointer can span
    CHECK_DIES(EXIT_IO, "out of memory", mem_resize(NULL, SIZE_MAX / 2, 3));
    CHECK_DIES(EXIT_IO, "out of memory", mem_floats(SIZE_MAX / 3));
#ifndef __SANITIZE_ADDRESS__ // which ends the program itself
    CHECK_DIES(EXIT_IO, "out of memory: 1152921504606846976 bytes",
               mem_alloc((size_t)1 << 50, 1 << 10));
    CHECK_DIES(EXIT_IO, "out of memory", mem_floats((size_t)1 << 58));
#endif
    CHECK(size_product(0, SIZE_MAX) == 0 && size_product(SIZE_MAX, 0) == 0, "0 times anything");
    CHECK(size_product((size_t)1 << 31, (size_t)1 << 31) == (size_t)1 << 62, "a big product");

    bool zero = true, aligned = true;
    static const size_t counts[] = {0, 1, 15, 17, 1 << 20, (1 << 20) + 1};
    for (int i = 0; i < COUNT(counts); i++) {
        float *x = mem_floats(counts[i]);
        aligned = aligned && (uintptr_t)x % 64 == 0;
        for (size_t k = 0; k < counts[i]; k++) zero = zero && x[k] == 0, x[k] = 1;
        free(x);
    }
    CHECK(zero, "mem_floats gives zeros");
    CHECK(aligned, "mem_floats aligns to 64 bytes");
    char *p = mem_alloc(3, 5);
    for (int i = 0; i < 15; i++) zero = zero && !p[i];
    CHECK(zero, "mem_alloc gives zeros");
    memcpy(p, "abc", 4);
    p = mem_resize(p, 100000, 1);
    CHECK(!strcmp(p, "abc"), "mem_resize keeps the content");
    p = mem_resize(p, 0, 1);
    CHECK(p != NULL, "mem_resize to nothing still gives a block");
    free(p);
}

static void test_text(void) {
    Text t = {0};
    text_append(&t, "", 0);
    CHECK(t.data && !t.data[0] && !t.size, "empty text is NUL-terminated");
    text_append(&t, "a\0b", 3);
    text_print(&t, "%s=%05d", "x", 42);
    CHECK(t.size == 10 && !memcmp(t.data, "a\0bx=00042", 11), "append and print");
    text_print(&t, "%s", "");
    CHECK(t.size == 10, "print nothing");
    text_free(&t);
    CHECK(!t.data && !t.size && !t.capacity, "text_free");
    for (int i = 0; i < 10000; i++) text_append(&t, "0123456789", 10);
    bool same = t.size == 100000 && !t.data[t.size];
    for (size_t i = 0; i < t.size; i++) same = same && t.data[i] == (char)('0' + i % 10);
    CHECK(same, "10,000 appends");
    char *copy = text_copy(t.data), *more = text_format("%s%s", t.data, "!");
    CHECK(!strcmp(copy, t.data), "text_copy of a long string");
    CHECK(strlen(more) == 100001 && more[100000] == '!', "text_format of a long string");
    free(copy), free(more), text_free(&t);
    char *empty = text_format("%s", "");
    CHECK(!*empty, "text_format of nothing");
    free(empty);
}

// Paths, and what reading says about those that cannot be read.
static void test_files(void) {
    static const char *const joins[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"a/b", "c/d", "a/b/c/d"}};
    for (int i = 0; i < COUNT(joins); i++) {
        char *path = path_join(joins[i][0], joins[i][1]);
        CHECK(!strcmp(path, joins[i][2]), "path_join gives %s, not %s", path, joins[i][2]);
        free(path);
    }
    char *path = in_root("file"), *missing = in_root("missing"), *below = in_root("file/x");
    size_t n = 200003;
    char *bytes = mem_alloc(n, 1);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(i * 7);
    write_file(path, bytes, n);
    CHECK(path_is_file(path) && !path_is_dir(path), "a file is a file");
    CHECK(path_is_dir(root) && !path_is_file(root), "a directory is a directory");
    CHECK(!path_is_file(missing) && !path_is_dir(missing), "nothing is neither");
    size_t size;
    char *back = file_read(path, &size);
    CHECK(size == n && !memcmp(back, bytes, n) && !back[n], "a binary file is read whole");
    free(back);
    write_file(path, "", 0);
    back = file_read(path, NULL);
    CHECK(!*back, "an empty file");
    free(back);
    CHECK_DIES(EXIT_BAD_INPUT, "missing: no such file\n", file_read(missing, NULL));
    CHECK_DIES(EXIT_BAD_INPUT, ": is a directory, expected a file\n", file_read(root, NULL));
    CHECK_DIES(EXIT_IO, "file/x: cannot open: Not a directory\n", file_read(below, NULL));
    free(path), free(missing), free(below), free(bytes);
}

// ------------------------------------------------------------------------------------------------
// UTF-8

static void test_utf8(void) {
    // Every code point there and back; surrogates are encoded, too, but are not valid.
    long bad = 0;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char s[5] = {0};
        uint32_t code = 0;
        int n = utf8_encode(s, c), want = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        int got = utf8_decode(&code, s, (size_t)n);
        bad += n != want || got != (surrogate ? 0 : n) || (got && code != c);
        for (size_t less = 0; less < (size_t)n; less++) bad += utf8_decode(&code, s, less) != 0;
    }
    CHECK(!bad, "%ld of 1,114,112 code points fail", bad);

    // All sequences of two bytes, and all of three and four at the borders of each byte's range,
    // against the table of RFC 3629, section 4.
    static const unsigned char edge[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                         0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0,
                                         0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF};
    const int E = COUNT(edge);
    bad = 0;
    for (int i = 0; i < 65536 + E * E * E * E; i++) {
        int k = i - 65536;
        unsigned char b[4] = {(unsigned char)(i >> 8), (unsigned char)i, 0x80, 0x80};
        if (k >= 0)
            for (int at = 0; at < 4; at++, k /= E) b[at] = edge[k % E];
        int want = 0;
        unsigned char low = 0x80, high = 0xBF;
        if (b[0] < 0x80) want = 1;
        else if (b[0] >= 0xC2 && b[0] <= 0xDF) want = 2;
        else if (b[0] >= 0xE0 && b[0] <= 0xEF) want = 3;
        else if (b[0] >= 0xF0 && b[0] <= 0xF4) want = 4;
        if (b[0] == 0xE0) low = 0xA0;
        if (b[0] == 0xED) high = 0x9F;
        if (b[0] == 0xF0) low = 0x90;
        if (b[0] == 0xF4) high = 0x8F;
        for (int at = 1; at < want; at++, low = 0x80, high = 0xBF)
            if (b[at] < low || b[at] > high) want = 0;
        uint32_t code;
        bad += utf8_decode(&code, (const char *)b, 4) != want;
    }
    CHECK(!bad, "%ld byte sequences are judged wrongly", bad);

    static const struct {
        const char *s;
        size_t n, bad;
    } cases[] = {
        {"", 0, 0},
        {"abc", 3, 3},
        {"a\0b", 3, 3},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, 9},
        {"ab\xFF", 3, 2},
        {"\xC3", 1, 0},
        {"\xE2\x82\xAC\xE2\x82", 5, 3},
        {"a\xF0\x9F\x98", 4, 1},
        {"\xC0\x80", 2, 0},                  // NUL in two bytes
        {"x\xED\xA0\xBD\xED\xB8\x80", 7, 1}, // surrogates in UTF-8 (CESU-8)
        {"\xF4\x90\x80\x80", 4, 0},          // U+110000
        {"\xF8\x88\x80\x80\x80", 5, 0},      // five bytes
        {"a\x80", 2, 1},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        char *exact = mem_alloc(cases[i].n, 1); // no byte more, so that a sanitizer sees over-reads
        memcpy(exact, cases[i].s, cases[i].n);
        size_t got = utf8_check(exact, cases[i].n);
        CHECK(got == cases[i].bad, "utf8_check case %d gives %zu", i, got);
        free(exact);
    }
}

// ------------------------------------------------------------------------------------------------
// JSON

// One text that has to be refused: message is what stands behind the file's name.
typedef struct {
    const char *text;
    size_t n;
    const char *message;
} BadJson;

static void test_json_faults(void) {
    static const BadJson cases[] = {
        // what cJSON lets through (format: strict reading)
        {"{\"a\":1,\n \"b\":2, \"a\":3}", 0, ":2:9: duplicate key \"a\""},
        {"{\"b\":\"a\",\"a\":1,\"c\":{\"a\":1},\"a\":3}", 0, ":1:28: duplicate key \"a\""},
        {"[{\"x\":{\"a\":1,\"a\":1}}]", 0, ":1:14: duplicate key \"a\""},
        {"{\"\\\"a\":1,\"b\\\\\":\"\\\\\\\"\",\"b\\\\\":2}", 0, ":1:23: duplicate key \"b\\\""},
        {"{\"a\":1,\"\\u0061\":2}", 0, ":1:8: duplicate key \"a\""},
        {"{\"a\":1,\"a\":1,\"b\":1,\"a\":1}", 0, ":1:20: duplicate key \"a\""},
        {"{\"\":1,\"\":2}", 0, ":1:7: duplicate key \"\""},
        {"{\"a\": \"x\\u0000y\"}", 0, ":1:9: \\u0000 inside a JSON string"},
        {"{\"a\\u0000\": 1}", 0, ":1:4: \\u0000 inside a JSON string"},
        {"[\"a\nb\"]", 0, ":1:4: raw control byte inside a JSON string"},
        {"[\"a\tb\"]", 0, ":1:4: raw control byte"},
        {"[\n\"\x1F\"]", 0, ":2:2: raw control byte"},
        {"[\"\xFF\"]", 0, ":1:3: invalid UTF-8 byte 0xFF"},
        {"[1,\n \"\xED\xA0\x80\"]", 0, ":2:3: invalid UTF-8 byte 0xED"},
        {"[\"\xC0\x80\"]", 0, ":1:3: invalid UTF-8 byte 0xC0"},
        {"[\"abc\xE2\x82", 0, ":1:6: invalid UTF-8 byte 0xE2"},
        {"[012]", 0, ":1:2: not a JSON number"},
        {"[-012]", 0, ":1:2: not a JSON number"},
        {"[1.]", 0, ":1:2: not a JSON number"},
        {"[1.e5]", 0, ":1:2: not a JSON number"},
        {"[1e]", 0, ":1:2: not a JSON number"},
        {"[1e+]", 0, ":1:2: not a JSON number"},
        {"[-]", 0, ":1:2: not a JSON number"},
        {"[1, -]", 0, ":1:5: not a JSON number"},
        {"[.5]", 0, ":1:2: JSON error"},
        {"[+1]", 0, ":1:2: JSON error"},
        {"[0x10]", 0, ":1:3: JSON error"},
        {"[1a]", 0, ":1:3: JSON error"},
        {"[0.1234567890123456789012345678901234567890123456789012345678901234]", 0,
         ":1:2: a number of more than 63 characters"},
        {"\x01{}", 0, ":1:1: JSON error: unexpected byte outside a string"},
        {"{}\f", 0, ":1:3: JSON error: unexpected byte outside a string"},
        {"{\xC2\xA0}", 0, ":1:2: JSON error: unexpected byte outside a string"},
        {"\xEF\xBB\xBF{}", 0, ":1:1: begins with a byte order mark"},
        {"{} xyz", 0, ":1:4: JSON error: text after the end of the value"},
        {"{}\n{}", 0, ":2:1: JSON error: text after the end of the value"},
        {"[1,2]]", 0, ":1:6: JSON error: text after the end of the value"},
        {"1 2", 0, ":1:3: JSON error: text after the end of the value"},
        {"{\"a\":\"b\0c\"}", 11, ":1:8: contains a NUL byte"},
        {"{}\0", 3, ":1:3: contains a NUL byte"},
        {"[1,\n\0]", 6, ":2:1: contains a NUL byte"},
        // what cJSON refuses itself
        {"", 0, ":1:1: JSON error: empty"},
        {" \n ", 0, ":2:1: JSON error"},
        {"{\"a\":1,}", 0, ":1:8: JSON error"},
        {"[1,]", 0, ":1:4: JSON error"},
        {"[1 2]", 0, ":1:4: JSON error"},
        {"{\"a\" 1}", 0, ":1:6: JSON error"},
        {"{\"a\":1 \"b\":2}", 0, ":1:8: JSON error"},
        {"{\"a\"}", 0, ":1:5: JSON error"},
        {"{a:1}", 0, ":1:"},
        {"{'a':1}", 0, ":1:"},
        {"{1:1}", 0, ":1:"},
        {"[1,\n 2,\n  nul]", 0, ":3:3: JSON error"},
        {"[True]", 0, ":1:2: JSON error"},
        {"NaN", 0, ":1:1: JSON error"},
        {"[NaN]", 0, ":1:2: JSON error"},
        {"[Infinity]", 0, ":1:2: JSON error"},
        {"[-Infinity]", 0, ":1:2: not a JSON number"},
        {"[1, // one\n 2]", 0, ":1:5: JSON error"},
        {"/* */ {}", 0, ":1:1: JSON error"},
        {"[\"\\ud800\"]", 0, ":1:3: JSON error"},
        {"[\"\\udc00\"]", 0, ":1:3: JSON error"},
        {"[\"\\ud800\\ud800\"]", 0, ":1:3: JSON error"},
        {"[\"\\ud800x\"]", 0, ":1:3: JSON error"},
        {"[\"\\u12\"]", 0, ":1:3: JSON error"},
        {"[\"\\u12g4\"]", 0, ":1:3: JSON error: not four hex digits"},
        {"[\"\\uzzzz\"]", 0, ":1:3: JSON error: not four hex digits"},
        {"[\"\\u+123\"]", 0, ":1:3: JSON error: not four hex digits"},
        {"[\"\\ud83d\\ude0x\"]", 0, ":1:9: JSON error: not four hex digits"},
        {"[\"\\u1", 0, ":1:3: JSON error: not four hex digits"},
        {"[\"\\x41\"]", 0, ":1:3: JSON error"},
        {"[\"\\", 0, ":1:"},
        {"[\"abc", 0, ":1:3: JSON error"},
        {"{\"a", 0, ":1:"},
        {"{\"a\":", 0, ":1:5: JSON error"},
        {"[1,2", 0, ":1:4: JSON error"},
        {"{", 0, ":1:1: JSON error"},
        {"]", 0, ":1:1: JSON error"},
        {"{]", 0, ":1:2: JSON error"},
        {"[}", 0, ":1:2: JSON error"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        size_t n = cases[i].n ? cases[i].n : strlen(cases[i].text);
        char *exact = mem_alloc(n + 1, 1), *want = text_format("error: FILE%s", cases[i].message);
        memcpy(exact, cases[i].text, n);
        CHECK_DIES(EXIT_BAD_INPUT, want, json_parse(exact, n, "FILE", 1));
        free(exact), free(want);
    }
    CHECK_DIES(EXIT_BAD_INPUT, "FILE:7:2: not a JSON number", json_parse("[01]", 4, "FILE", 7));
    CHECK_DIES(EXIT_BAD_INPUT, "FILE:9:1: not a JSON number",
               json_parse("[1,\n\n01]", 8, "FILE", 7));

    // Nesting: 512 levels are read, one more is refused, and so is a bomb.
    for (int depth = 511; depth <= 100000; depth += depth < 513 ? 1 : 99487) {
        Text t = {0};
        for (int i = 0; i < depth; i++) text_append(&t, "[", 1);
        for (int i = 0; i < depth; i++) text_append(&t, "]", 1);
        if (depth <= 512) {
            cJSON *json = json_parse(t.data, t.size, "FILE", 1);
            CHECK(cJSON_IsArray(json), "depth %d", depth);
            cJSON_Delete(json);
        } else
            CHECK_DIES(EXIT_BAD_INPUT, "FILE:1:513: JSON is nested too deeply",
                       json_parse(t.data, t.size, "FILE", 1));
        text_free(&t);
    }
    char *path = in_root("bad.json");
    write_file(path, "{\n\"a\": 01}", 10);
    CHECK_DIES(EXIT_BAD_INPUT, "bad.json:2:6: not a JSON number", json_read(path));
    free(path);
}

static void test_json_values(void) {
    static const char text[] =
        " {\"A\": 1, \"a\": [0, -0, 10, -1.5, 2e3, 1E-2, 0.25e+1, true, false, null, {}, [], "
        "\"\"],\r\n"
        "\t\"s\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\xE2\x82\xAC \x7F\","
        " \"e\\u0041\": {\"a\": {\"a\": \"{[\\\\\"}}} \n";
    cJSON *json = json_parse(text, strlen(text), "FILE", 1);
    const cJSON *a = json_get(json, "a"), *s = json_get(json, "s"), *item;
    CHECK(cJSON_IsArray(a) && cJSON_GetArraySize(a) == 13, "an array of all kinds");
    static const double numbers[] = {0, -0.0, 10, -1.5, 2000, 0.01, 2.5};
    for (int i = 0; i < COUNT(numbers); i++) {
        item = cJSON_GetArrayItem(a, i);
        CHECK(cJSON_IsNumber(item) && item->valuedouble == numbers[i], "number %d", i);
    }
    CHECK(json_get(json, "A")->valuedouble == 1, "keys are case-sensitive");
    CHECK(!json_get(json, "S") && !json_get(a, "a") && !json_get(NULL, "a"), "absent members");
    CHECK(s && !strcmp(s->valuestring, "\"\\/\b\f\n\r\t\xC3\xA9\xF0\x9F\x98\x80\xE2\x82\xAC \x7F"),
          "escapes");
    CHECK(cJSON_IsObject(json_get(json, "eA")), "an escaped key");
    cJSON_Delete(json);
    static const char *const plain[] = {"1", "\"x\"", "true", "null", "[]", "-0.5e-10", " {} "};
    for (int i = 0; i < COUNT(plain); i++) {
        json = json_parse(plain[i], strlen(plain[i]), "FILE", 1);
        CHECK(json != NULL, "%s is a value", plain[i]);
        cJSON_Delete(json);
    }
    // The same key in different objects is no duplicate.
    json = json_parse("[{\"a\":{\"a\":1}},{\"a\":2}]", 23, "FILE", 1);
    CHECK(cJSON_GetArraySize(json) == 2, "equal keys of different objects");
    cJSON_Delete(json);

    static const struct {
        const char *text;
        bool whole;
        int64_t value;
    } integers[] = {
        {"0", true, 0},
        {"-7", true, -7},
        {"1.0", true, 1},
        {"1e3", true, 1000},
        {"2147483648", true, 2147483648},
        {"9007199254740992", true, 9007199254740992},
        {"-9007199254740992", true, -9007199254740992},
        {"9007199254740994", false, 0}, // from here on a double may have rounded
        {"18446744073709551616", false, 0},
        {"1e400", false, 0},
        {"0.5", false, 0},
        {"\"1\"", false, 0},
        {"true", false, 0},
        {"null", false, 0},
    };
    for (int i = 0; i < COUNT(integers); i++) {
        int64_t value = 0;
        json = json_parse(integers[i].text, strlen(integers[i].text), "FILE", 1);
        bool whole = json_integer(json, &value);
        CHECK(whole == integers[i].whole && (!whole || value == integers[i].value),
              "json_integer of %s", integers[i].text);
        cJSON_Delete(json);
    }
    int64_t value;
    CHECK(!json_integer(NULL, &value), "json_integer of nothing");
}

// Every string comes back from text_json: all bytes of ASCII, the borders of UTF-8, random text.
static void test_json_round_trip(void) {
    int bad = 0;
    Rng rng = rng_make(1, RNG_DATA);
    for (int i = 0; i < 2000; i++) {
        Text s = {0}, quoted = {0};
        char b[4];
        if (i < 127) {
            b[0] = (char)(i + 1); // NUL is the one character that is refused
            text_append(&s, b, 1);
        } else
            for (int k = i % 40; k >= 0; k--) {
                uint32_t c = 1 + (uint32_t)rng_below(&rng, 1u << (7 + rng_below(&rng, 14)));
                if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
                text_append(&s, b, (size_t)utf8_encode(b, c));
            }
        text_json(&quoted, s.data, s.size);
        cJSON *json = json_parse(quoted.data, quoted.size, "FILE", 1);
        bad += !cJSON_IsString(json) || strcmp(json->valuestring, s.data);
        cJSON_Delete(json);
        text_free(&s), text_free(&quoted);
    }
    CHECK(!bad, "%d of 2000 strings change on their way", bad);
    Text t = {0};
    text_json(&t, "a\"\\\n\t\r\x01/\x7F\xC3\xA9", 11);
    CHECK(!strcmp(t.data, "\"a\\\"\\\\\\n\\t\\r\\u0001/\x7F\xC3\xA9\""), "text_json gives %s",
          t.data);
    text_free(&t);
}

// What passes in a record: not finite numbers anywhere, and flaws, which leave their marks.
static void test_json_records(void) {
#define NUL "\xEF\xBF\xBE"
#define HALF "\xEF\xBF\xBF"
#define BYTE "\xF0\x9F\xBF\xBE"
    const struct {
        const char *text, *want; // printed by cJSON
        bool mended;
        const char *flaw;
    } cases[] = {
        {"{\"a\": 1, \"b\": [true, \"NaN\"]}", "{\"a\":1,\"b\":[true,\"NaN\"]}", false, NULL},
        {"{\"a\": NaN, \"b\": \"x\"}", "{\"a\":null,\"b\":\"x\"}", true, NULL},
        {"{\"a\": [Infinity,-Infinity,NaN, -1]}", "{\"a\":[null,null,null,-1]}", true, NULL},
        {"{\"a\": \"x \\u0000 NaN\"}", "{\"a\":\"x " NUL " NaN\"}", true, "\\u0000"},
        {"{\"a\": \"\\\\u0000\"}", "{\"a\":\"\\\\u0000\"}", false, NULL},
        {"{\"a\": \"\\ud83d\\ude00\"}", "{\"a\":\"\xF0\x9F\x98\x80\"}", false, NULL},
        {"{\"a\": \"\\ud83d\\ude00 \\uDC00\"}", "{\"a\":\"\xF0\x9F\x98\x80 " HALF "\"}", true,
         "half of a surrogate pair"},
        {"{\"a\": \"\\ud83dx\\ud83d\\ud83d\\ude00\"}",
         "{\"a\":\"" HALF "x" HALF "\xF0\x9F\x98\x80\"}", true, "half of a surrogate pair"},
        {"{\"a\": \"\\ud83d\"}", "{\"a\":\"" HALF "\"}", true, "half of a surrogate pair"},
        {"{\"a\": \"caf\xE9\", \"b\": \"\xC3\xA9\xFF\"}",
         "{\"a\":\"caf" BYTE "\",\"b\":\"\xC3\xA9" BYTE "\"}", true, "a byte that is not UTF-8"},
        {"{\"\\u0000\": \"\\\"\\u0000\"}", "{\"" NUL "\":\"\\\"" NUL "\"}", true, "\\u0000"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        const char *text = cases[i].text;
        bool mended;
        cJSON *json = json_parse_record(text, strlen(text), (JsonPlace){"FILE", 1, 0}, &mended);
        char *got = cJSON_PrintUnformatted(json);
        const char *flaw = json_flaw(got);
        CHECK(!strcmp(got, cases[i].want) && mended == cases[i].mended, "%s: got %s", text, got);
        CHECK(flaw ? cases[i].flaw && !strcmp(flaw, cases[i].flaw) : !cases[i].flaw, "%s: flaw %s",
              text, flaw ? flaw : "none");
        cJSON_Delete(json), cJSON_free(got);
    }
    const BadJson bad[] = {
        // and what does not
        {"{\"a\": NAN}", 0, ":1:7: JSON error"},
        {"{\"a\": nan}", 0, ":1:7: JSON error"},
        {"{\"a\": -Inf}", 0, ":1:7: not a JSON number"},
        {"{\"a\": +Infinity}", 0, ":1:7: JSON error"},
        {"{\"a\": NaN \"b\"}", 0, ":1:"},
        {"{\"a\": \xFF}", 0, ":1:7: JSON error: unexpected byte outside a string"},
        {"{\"a\": \"\\u00\"}", 0, ":1:8: JSON error: not four hex digits"},
        {"{\"a\": \"\t\"}", 0, ":1:8: raw control byte"},
        {"{\"a\": \"b\0\"}", 11, ":1:9: contains a NUL byte"},
        {"{\"a\": 1, \"b\": NaN, \"a\": 2}", 0, "duplicate key \"a\""},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        const size_t n = bad[i].n ? bad[i].n : strlen(bad[i].text);
        bool mended;
        CHECK_DIES(EXIT_BAD_INPUT, bad[i].message,
                   json_parse_record(bad[i].text, n, (JsonPlace){"FILE", 1, 0}, &mended));
    }
    bool mended; // a record that begins amid a line
    CHECK_DIES(EXIT_BAD_INPUT, "FILE:3:26: not a JSON number",
               json_parse_record("{\"a\": 01}", 9, (JsonPlace){"FILE", 3, 19}, &mended));
}

// ------------------------------------------------------------------------------------------------
// Random numbers

// FNV-1a of the first n numbers of a generator.
static uint64_t rng_hash(Rng r, int n) {
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < n; i++) hash = (hash ^ rng_next(&r)) * 1099511628211u;
    return hash;
}

static void test_rng(void) {
    enum { N = 200000 };
    // A number depends on (seed, stream, counter) alone: a copy of three integers goes on.
    Rng r = rng_make(42, RNG_SAMPLE);
    uint64_t ten[10];
    for (int i = 0; i < 10; i++) ten[i] = rng_next(&r);
    CHECK(r.seed == 42 && r.stream == RNG_SAMPLE && r.counter == 10, "the state is three integers");
    for (int i = 9; i >= 0; i--) {
        Rng at = {42, RNG_SAMPLE, (uint64_t)i};
        CHECK(rng_next(&at) == ten[i], "number %d by its counter", i);
    }
    // Saved runs rely on these very numbers: they must never change.
    CHECK(ten[0] == 0xC0F310997EBA803Cu, "the first number is 0x%" PRIX64, ten[0]);

    // Seeds and streams, neighbours too, have nothing in common.
    uint64_t hashes[64];
    int same = 0, bits = 0;
    for (int i = 0; i < 64; i++) {
        hashes[i] = rng_hash(rng_make((uint64_t)(i / 8), (uint64_t)(i % 8)), 100);
        for (int k = 0; k < i; k++) same += hashes[i] == hashes[k];
    }
    CHECK(!same, "64 streams of 8 seeds differ");
    Rng a = rng_make(7, 1), b = rng_make(7, 2), c = rng_make(8, 1);
    for (int i = 0; i < N / 64; i++) {
        uint64_t x = rng_next(&a);
        bits += __builtin_popcountll(x ^ rng_next(&b)) - __builtin_popcountll(x ^ rng_next(&c));
        bits += __builtin_popcountll(x) - 32;
    }
    CHECK(abs(bits) < 5 * (int)sqrt(3.0 * N / 4), "bits of neighbours agree by chance (%d)", bits);

    // Uniform: mean 1/2, variance 1/12, lag-1 correlation 0, all within 5 standard errors; chi
    // squared over 100 bins (99 degrees of freedom) within 5 of its standard deviations.
    double sum = 0, square = 0, lag = 0, before = 0.5, low = 1, high = 0, chi = 0;
    int bins[100] = {0};
    r = rng_make(1, RNG_DATA);
    for (int i = 0; i < N; i++) {
        double x = rng_uniform(&r), d = x - 0.5;
        sum += d, square += d * d, lag += d * (before - 0.5), before = x;
        low = x < low ? x : low, high = x > high ? x : high;
        bins[(int)(100 * x)]++;
    }
    for (int i = 0; i < 100; i++)
        chi += (bins[i] - N / 100.0) * (bins[i] - N / 100.0) / (N / 100.0);
    CHECK(low >= 0 && high < 1 && low < 1e-4 && high > 1 - 1e-4, "range [%g, %g]", low, high);
    CHECK_NEAR(sum / N, 0, 0, 5 * sqrt(1 / 12.0 / N), "mean of uniform numbers");
    CHECK_NEAR(square / N, 1 / 12.0, 0, 5 * sqrt(1 / 180.0 / N), "variance of uniform numbers");
    CHECK_NEAR(lag / N, 0, 0, 5 / 12.0 / sqrt(N), "correlation of neighbours");
    CHECK_NEAR(chi, 99, 0, 5 * sqrt(2 * 99.0), "chi squared of uniform numbers");

    // Normal: moments 0, 1, 0, 3, with variances 1, 2, 15, 96 of the sums' terms.
    double m[5] = {0}, inside = 0;
    for (int i = 0; i < N; i++) {
        double x = rng_normal(&r), p = 1;
        for (int k = 1; k < 5; k++) m[k] += p *= x;
        inside += fabs(x) < 1.959964;
        low = x < low ? x : low, high = x > high ? x : high;
    }
    CHECK_NEAR(m[1] / N, 0, 0, 5 * sqrt(1.0 / N), "mean of normal numbers");
    CHECK_NEAR(m[2] / N, 1, 0, 5 * sqrt(2.0 / N), "variance of normal numbers");
    CHECK_NEAR(m[3] / N, 0, 0, 5 * sqrt(15.0 / N), "third moment of normal numbers");
    CHECK_NEAR(m[4] / N, 3, 0, 5 * sqrt(96.0 / N), "fourth moment of normal numbers");
    CHECK_NEAR(inside / N, 0.95, 0, 5 * sqrt(0.95 * 0.05 / N), "share within 1.96");
    CHECK(low < -4 && high > 4 && isfinite(low) && isfinite(high), "tails [%g, %g]", low, high);

    // Below n: within range, and unbiased. With n = 3 * 2^62 a plain remainder would give values
    // below 2^62 twice as often as the others.
    static const uint64_t ns[] = {1,
                                  2,
                                  3,
                                  7,
                                  10,
                                  1000,
                                  ((uint64_t)1 << 32) + 1,
                                  (uint64_t)3 << 62,
                                  ((uint64_t)1 << 63) + 1,
                                  UINT64_MAX};
    for (int i = 0; i < COUNT(ns); i++) {
        const uint64_t n = ns[i];
        bool in_range = true;
        double third = 0;
        for (int k = 0; k < N / 10; k++) {
            uint64_t x = rng_below(&r, n);
            in_range = in_range && x < n;
            third += x < n / 3;
        }
        const double p = (double)(n / 3) / (double)n;
        CHECK(in_range, "below %" PRIu64, n);
        CHECK_NEAR(third / (N / 10), p, 0, 5 * sqrt(p * (1 - p) / (N / 10)) + 1e-12,
                   "share of the lowest third below %" PRIu64, n);
    }

    // Permutations: complete, a pure function, and every place equally likely.
    enum { P = 257 };
    static int order[P], again[P], counts[16];
    int errors = 0, fixed = 0;
    for (int epoch = 0; epoch < 4; epoch++) {
        char seen[P] = {0};
        rng_permutation(order, P, 42, (uint64_t)epoch);
        rng_permutation(again, P, 42, (uint64_t)epoch);
        errors += memcmp(order, again, sizeof order) != 0;
        for (int i = 0; i < P; i++) errors += order[i] < 0 || order[i] >= P || seen[order[i]]++;
        rng_permutation(again, P, 42, (uint64_t)epoch + 1);
        for (int i = 0; i < P; i++) fixed += order[i] == again[i];
        rng_permutation(again, P, 43, (uint64_t)epoch);
        for (int i = 0; i < P; i++) fixed += order[i] == again[i];
    }
    CHECK(!errors, "permutations of %d", P);
    CHECK(fixed < 8 * 6, "epochs and seeds give different orders (%d places agree)", fixed);
    for (int k = 0; k < 16000; k++) { // where does 0 of 4 come to stand, and where 3?
        rng_permutation(order, 4, (uint64_t)k, 3);
        for (int i = 0; i < 4; i++) counts[4 * order[i] + i]++;
    }
    for (int i = 0; i < 16; i++)
        CHECK_NEAR(counts[i], 4000, 0, 5 * sqrt(16000 * 0.25 * 0.75), "%d at place %d", i / 4,
                   i % 4);
    order[0] = 7;
    rng_permutation(order, 0, 1, 1);
    CHECK(order[0] == 7, "a permutation of nothing");
    rng_permutation(order, 1, 1, 1);
    CHECK(order[0] == 0, "a permutation of one");
}

// ------------------------------------------------------------------------------------------------
// Batch

static void test_batch(void) {
    Batch b = {0};
    static const int tokens[] = {5, 6, 7, 8};
    static const unsigned char mask[] = {1, 0, 1, 1};
    batch_add_row(&b, tokens, mask, 4);
    batch_add_row(&b, tokens + 1, NULL, 3);
    batch_add_row(&b, tokens, mask, 1);
    static const int starts[] = {0, 4, 7, 8}, all[] = {5, 6, 7, 8, 6, 7, 8, 5};
    static const unsigned char masks[] = {0, 0, 1, 1, 0, 1, 1, 0}; // 0 first in each row
    CHECK(b.R == 3 && b.N == 8 && !memcmp(b.row_start, starts, sizeof starts), "row starts");
    CHECK(!memcmp(b.tokens, all, sizeof all), "tokens stand back to back");
    CHECK(!memcmp(b.mask, masks, sizeof masks), "masks");
    CHECK(batch_count_mask(&b) == 4, "count of the mask");
    Batch copy = {0};
    batch_copy_row(&copy, &b, 1);
    batch_copy_row(&copy, &b, 0);
    CHECK(copy.R == 2 && copy.N == 7 && copy.row_start[1] == 3 && copy.parent[1] == -1 &&
              !memcmp(copy.tokens, all + 4, 3 * sizeof *all) &&
              !memcmp(copy.tokens + 3, all, 4 * sizeof *all) && !memcmp(copy.mask, masks + 4, 3) &&
              !memcmp(copy.mask + 3, masks, 4),
          "copied rows");
    batch_free(&copy);
    batch_clear(&b);
    CHECK(b.R == 0 && b.N == 0 && b.max_N >= 8 && batch_count_mask(&b) == 0, "clear keeps memory");
    bool same = true;
    for (int i = 0; i < 1000; i++) batch_add_row(&b, tokens, mask, 1 + i % 4);
    for (int i = 0; i < 1000; i++)
        for (int t = b.row_start[i]; t < b.row_start[i + 1]; t++) {
            int k = t - b.row_start[i];
            same = same && b.tokens[t] == tokens[k] && b.mask[t] == (k ? mask[k] : 0);
        }
    CHECK(same && b.R == 1000 && b.N == 2500, "1000 rows");
    CHECK_DIES(EXIT_BAD_INPUT, "a batch of more than 1073741823 tokens", b.N = INT_MAX / 2 - 3;
               batch_add_row(&b, tokens, mask, 4));
    batch_free(&b);
    CHECK(!b.tokens && !b.R && !b.max_R, "free");
}

// ------------------------------------------------------------------------------------------------
// Log, clock

// The file's text is this?
static bool file_is(const char *path, const char *text) {
    size_t n;
    char *have = file_read(path, &n);
    bool same = n == strlen(text) && !memcmp(have, text, n);
    if (!same) fprintf(stderr, "%s has: %s\n", path, have);
    free(have);
    return same;
}

static void test_log(void) {
    char *path = in_root("metrics.jsonl"), *below = in_root("missing/metrics.jsonl");
    MetricsLog log;
    write_file(path, "an old run\n", 11);
    log_open(&log, path, 0);
    log_number(&log, "step", 1);
    log_number(&log, "loss", 0.1 + 0.2);
    log_write(&log);
    CHECK(file_is(path, "{\"step\": 1, \"loss\": 0.3}\n"), "a new log; a row is there at once");
    int64_t offset = log_offset(&log);
    CHECK(offset == 25, "the offset is %" PRId64, offset);
    log_number(&log, "a\"b", NAN);
    log_number(&log, "c", -INFINITY);
    log_number(&log, "d", 123456789012.0);
    log_number(&log, "e", -2.5e-7);
    log_write(&log);
    CHECK(file_is(path,
                  "{\"step\": 1, \"loss\": 0.3}\n"
                  "{\"a\\\"b\": null, \"c\": null, \"d\": 1.23456789e+11, \"e\": -2.5e-07}\n"),
          "what JSON has no number for is null");
    log_close(&log);

    // A resumed run cuts what came after the checkpoint, with a torn last line, and goes on.
    FILE *file = fopen(path, "ab");
    fputs("{\"step\": 3, \"lo", file);
    fclose(file);
    log_open(&log, path, offset);
    CHECK(log_offset(&log) == 25, "the offset after cutting");
    log_number(&log, "step", 2);
    log_write(&log);
    CHECK(log_offset(&log) == 37, "the offset after another row");
    log_close(&log);
    CHECK(file_is(path, "{\"step\": 1, \"loss\": 0.3}\n{\"step\": 2}\n"), "cut and continued");
    log_open(&log, path, 0);
    log_close(&log);
    CHECK(file_is(path, ""), "offset 0 starts anew");
    CHECK_DIES(EXIT_IO, "cannot write: No such file or directory", log_open(&log, below, 0));
    CHECK_DIES(EXIT_IO, "cannot write: Is a directory", log_open(&log, root, 0));
    if (access("/dev/full", W_OK) == 0) {
        // /dev/full cannot be cut, so the log is opened by hand
        log = (MetricsLog){.file = fopen("/dev/full", "wb"), .path = "full"};
        log_number(&log, "step", 1);
        CHECK_DIES(EXIT_IO, "full: cannot write: No space left on device", log_write(&log));
        fclose(log.file), text_free(&log.row);
    }
    // A run's log keeps what could not be written, leaves no torn row and asks the program to stop.
    struct rlimit limit, before;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){30, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    log_open(&log, path, 0);
    log.lasting = true;
    setrlimit(RLIMIT_FSIZE, &limit);
    for (int i = 1; i <= 3; i++) {
        log_number(&log, "step", i);
        log_number(&log, "loss", 2);
        log_write(&log);
        CHECK((i > 1) == (log.error == EFBIG) && (i > 1) == (stop_signal == SIGXFSZ), "row %d", i);
    }
    CHECK(file_is(path, "{\"step\": 1, \"loss\": 2}\n") && log_offset(&log) == 23, "one row");
    setrlimit(RLIMIT_FSIZE, &before);
    log_flush(&log);
    CHECK(!log.error && log_offset(&log) == 69 &&
              file_is(path, "{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 2}\n"
                            "{\"step\": 3, \"loss\": 2}\n"),
          "the others follow when there is room");
    stop_signal = 0;
    signal(SIGXFSZ, SIG_DFL);
    log_close(&log);
    free(path), free(below);
}

static void test_clock(void) {
    static const struct {
        double seconds;
        const char *text;
    } times[] = {
        {0, "0s"},        {0.4, "0s"},          {0.6, "1s"},        {59.4, "59s"},
        {59.6, "1m00s"},  {61, "1m01s"},        {3599.4, "59m59s"}, {3599.6, "1h00m"},
        {3660, "1h01m"},  {360000, "100h00m"},  {-5, "0s"},         {NAN, "0s"},
        {INFINITY, "0s"}, {9.9e7, "27500h00m"},
    };
    char s[32];
    for (int i = 0; i < COUNT(times); i++) {
        time_format(s, times[i].seconds);
        CHECK(!strcmp(s, times[i].text), "%g seconds are %s", times[i].seconds, s);
    }
    double before = seconds_now();
    usleep(2000);
    double spent = seconds_now() - before;
    CHECK(spent >= 0.002 && spent < 10, "the clock goes (%g s)", spent);
    CHECK(memory_peak_mb() > 1 && memory_peak_mb() < 1e6, "peak memory %g MB", memory_peak_mb());
}

// The first signal is noted, a second one ends the program.
static void test_signals(void) {
    CHECK_DIES(7, "", stop_on_signals(); raise(SIGTERM); _exit(stop_signal == SIGTERM ? 7 : 1));
    CHECK_DIES(7, "", stop_on_signals(); raise(SIGINT); _exit(stop_signal == SIGINT ? 7 : 1));
    CHECK_DIES(128 + SIGTERM, "", stop_on_signals(); raise(SIGINT); raise(SIGTERM); _exit(1));
    // twice at once, as timeout(1) sends it, is once; a moment later it is a second one
    CHECK_DIES(7, "", stop_on_signals(); raise(SIGTERM); raise(SIGTERM);
               _exit(stop_signal == SIGTERM ? 7 : 1));
    CHECK_DIES(128 + SIGTERM, "", stop_on_signals(); raise(SIGTERM); usleep(150000); raise(SIGTERM);
               _exit(1));
    // the end of a terminal or a pipe is a request, however often it is told, and no second one
    CHECK_DIES(7, "", stop_on_signals(); raise(SIGHUP); usleep(150000); raise(SIGHUP);
               raise(SIGPIPE); _exit(stop_signal == SIGHUP ? 7 : 1));
    CHECK_DIES(7, "", stop_on_signals(); raise(SIGPIPE); raise(SIGHUP); raise(SIGINT);
               raise(SIGPIPE); _exit(stop_signal == SIGINT ? 7 : 1));
    CHECK_DIES(7, "", signal(SIGHUP, SIG_IGN); stop_on_signals(); raise(SIGHUP); // nohup
               _exit(stop_signal ? 1 : 7));
    // stuck: no mark after the signal; a mark gives more time, and stop_wait all of it
    CHECK_DIES(128 + SIGTERM, "does not come to its end", stop_on_signals(); stop_patience = 1;
               raise(SIGTERM); for (;;) pause());
    CHECK_DIES(7, "", stop_on_signals(); stop_patience = 1; raise(SIGTERM); usleep(600000);
               stop_mark(); usleep(600000); _exit(stop_patience >= 7 ? 7 : 1));
    CHECK_DIES(7, "", stop_on_signals(); stop_patience = 1; raise(SIGTERM); stop_wait();
               usleep(1200000); _exit(7));
    CHECK_DIES(7, "", stop_on_signals(); stop_wait(); raise(SIGTERM); usleep(100000); _exit(7));
}

// A tree as the kernel shows it: a container of 100 MB in one of 80, version 2, and one of version 1.
static void test_cgroup(void) {
    static const struct {
        const char *path, *text;
    } files[] = {
        {"v1", "12:cpu,cpuacct:/a\n4:memory:/a/b\n0::/\n"},
        {"v2", "0::/a/b\n"},
        {"away", "4:memory:/docker/0123\n"}, // the path as it is outside of the container
        {"memory/memory.limit_in_bytes", "9223372036854771712\n"}, // no limit
        {"memory/memory.usage_in_bytes", "123456\n"},
        {"memory/a/memory.limit_in_bytes", "80000000\n"},
        {"memory/a/memory.usage_in_bytes", "50000000\n"},
        {"memory/a/memory.stat",
         "cache 9\nactive_file 7\ntotal_inactive_file 4000000\ntotal_active_file 1000000\n"},
        {"memory/a/b/memory.limit_in_bytes", "100000000\n"},
        {"memory/a/b/memory.usage_in_bytes", "40000000\n"},
        {"a/memory.max", "max\n"},
        {"a/memory.current", "50000000\n"},
        {"a/b/memory.max", "100000000\n"},
        {"a/b/memory.current", "40000000\n"},
        {"a/b/memory.stat",
         "anon 3\nfile 8\ninactive_file_not 5\ninactive_file 2000000\nactive_file 500000\n"},
        {"a/b/memory.swap.max", "3000000\n"},
        {"a/b/memory.swap.current", "1000000\n"},
    };
    static const char *dirs[] = {"memory", "memory/a", "memory/a/b", "a", "a/b"};
    for (int i = 0; i < COUNT(dirs); i++) {
        char *dir = in_root(dirs[i]);
        if (mkdir(dir, 0700)) die(EXIT_IO, "cannot make %s", dir);
        free(dir);
    }
    for (int i = 0; i < COUNT(files); i++) {
        char *path = in_root(files[i].path);
        write_file(path, files[i].text, strlen(files[i].text));
        free(path);
    }
    static const struct {
        const char *membership;
        double swap, limit, room;
    } expected[] = {
        {"v1", 0, 80e6, 35e6},      // the outer group is the narrower: 80 - 50 + 5
        {"v1", 7e6, 80e6, 42e6},    // and may use the machine's swap space
        {"v2", 0, 100e6, 62.5e6},   // no swap space on the machine, whatever is allowed
        {"v2", 9e6, 100e6, 64.5e6}, // 2 of 3 allowed are left
        {"away", 0, INFINITY,
         INFINITY}, // such a group is not to be seen, and its root has no limit
        {"missing", 0, INFINITY, INFINITY} // another system
    };
    for (int i = 0; i < COUNT(expected); i++) {
        char *membership = in_root(expected[i].membership);
        double limit;
        const double room = cgroup_room(&limit, membership, root, expected[i].swap);
        CHECK(room == expected[i].room && limit == expected[i].limit, "%s: room for %g of %g bytes",
              expected[i].membership, room, limit);
        free(membership);
    }
    // Inside a container the root is its group.
    char *path = in_root("memory/memory.limit_in_bytes"), *away = in_root("away");
    write_file(path, "200000\n", 7);
    double limit;
    CHECK(cgroup_room(&limit, away, root, 0) == 200000 - 123456 && limit == 200000,
          "the root's limit");
    free(path);
    free(away);
}

int main(void) {
    if (!mkdtemp(root)) die(EXIT_IO, "cannot make %s", root);
    test_errors();
    test_memory();
    test_cgroup();
    test_text();
    test_files();
    test_utf8();
    test_json_faults();
    test_json_values();
    test_json_records();
    test_json_round_trip();
    test_rng();
    test_batch();
    test_log();
    test_clock();
    test_signals();
    char *tidy = text_format("rm -rf '%s'", root);
    if (system(tidy)) fprintf(stderr, "cannot remove %s\n", root);
    free(tidy);
    return test_end("common");
}
