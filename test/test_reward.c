// test_reward.c: scores from a reward model against a forward pass of each row alone, and a reward
// program for each fault that one can have. The programs are a line or two of shell.
#include "test.h"
#include "../lib/base/json.h"
#include "../lib/base/tokenizer.h"
#include "../model.h"
#include "../lib/files/checkpoint.h"
#include "../lib/run/reward.h"
#include "../data/gold.h"
#include <sys/time.h>

static char *root; // where the test writes, removed at the end

// Rows of the policy: prompt and completion by their texts, with or without the end-of-text token.
static void add_row(Batch *rows, const Tokenizer *t, const char *prompt, const char *completion,
                    bool ended) {
    TokenList list = {0};
    tokenizer_encode(t, &list, prompt, strlen(prompt), false);
    const size_t n = list.n;
    tokenizer_encode(t, &list, completion, strlen(completion), false);
    if (ended) tokens_append(&list, t->eos_id);
    batch_add_row(rows, list.data, NULL, (int)list.n);
    memset(rows->mask + rows->N - (int)list.n, 0, n);
    tokens_free(&list);
}

// The four rows of most tests.
static Batch make_rows(const Tokenizer *t) {
    Batch rows = {0};
    add_row(&rows, t, "The plot is", " good. I loved it.", true);
    add_row(&rows, t, "The plot is", " bad.", false);
    add_row(&rows, t, "The acting", " is not great. Avoid it.", true);
    add_row(&rows, t, "I", "", true);
    return rows;
}

// ------------------------------------------------------------------------------------------------
// Programs

// Score `rows` by `command`, `times` times over; the sentence of the first fault, or NULL. scores
// (R) may be NULL.
static char *ask(const char *command, double timeout, const Batch *rows, const Tokenizer *t,
                 float *scores, int times) {
    Reward r;
    char *fault = NULL;
    float *s = scores ? scores : mem_floats((size_t)rows->R);
    reward_open_command(&r, command, timeout);
    while (times-- > 0 && !fault) fault = reward_score(&r, s, rows, t);
    if (fault) CHECK(r.pid == 0, "%s: still runs after \"%s\"", command, fault);
    reward_close(&r);
    if (!scores) free(s);
    return fault;
}

// The rows as they come to a program, and its answers as they come back.
static void test_rows(const Tokenizer *t) {
    Batch rows = make_rows(t);
    float scores[4] = {0};
    char *path = path_join(root, "rows"), *command;
    command = text_format("tee %s | sed -un =", path);
    char *fault = ask(command, 10, &rows, t, scores, 1);
    CHECK(!fault, "%s", fault);
    for (int i = 0; i < 4; i++) CHECK(scores[i] == (float)i + 1, "score %d: %g", i, scores[i]);
    char *text = file_read(path, NULL);
    const char *want = "{\"prompt\": \"The plot is\", \"completion\": \" good. I loved it.\", "
                       "\"finish\": \"eos\"}\n"
                       "{\"prompt\": \"The plot is\", \"completion\": \" bad.\", "
                       "\"finish\": \"length\"}\n"
                       "{\"prompt\": \"The acting\", \"completion\": \" is not great. Avoid it.\", "
                       "\"finish\": \"eos\"}\n"
                       "{\"prompt\": \"I\", \"completion\": \"\", \"finish\": \"eos\"}\n";
    CHECK(!strcmp(text, want), "rows are %s", text);
    free(text);

    // Bytes that are no text, and NUL; ids without a tokenizer; several batches.
    Batch odd = {0};
    batch_add_row(&odd, (int[]){t->byte_id['a'], t->byte_id[0xC3], t->byte_id[0], t->byte_id['"']},
                  (unsigned char[]){0, 0, 1, 1}, 4);
    fault = ask(command, 10, &odd, t, scores, 1);
    text = file_read(path, NULL);
    cJSON *row = json_parse(text, strcspn(text, "\n"), path, 1); // dies if it is not strict JSON
    CHECK(!fault && !strcmp(json_get(row, "prompt")->valuestring, "a\xEF\xBF\xBD") &&
              !strcmp(json_get(row, "completion")->valuestring, "\xEF\xBF\xBD\""),
          "odd bytes: %s, %s", fault, text);
    cJSON_Delete(row), free(text);
    fault = ask(command, 10, &odd, NULL, scores, 3);
    text = file_read(path, NULL);
    want = strchr(text, '\n') + 1;
    CHECK(!fault && scores[0] == 3 && !strncmp(text, want, (size_t)(want - text)), "3 batches");
    char *ids = text_format("{\"prompt_ids\": [%d, %d], \"completion_ids\": [%d, %d]}\n",
                            odd.tokens[0], odd.tokens[1], odd.tokens[2], odd.tokens[3]);
    CHECK(!strncmp(text, ids, strlen(ids)), "ids are %s", text);
    free(text), free(ids), free(path), free(command);
    batch_free(&rows), batch_free(&odd);
}

// One fault a line: the program, the timeout, and what its sentence must say. Batches of four rows;
// `times` batches until the fault shows.
static void test_faults(const Tokenizer *t) {
    static const struct {
        const char *command;
        double timeout;
        int times;
        const char *says;
    } cases[] = {
        // right: numbers of all kinds, CR before LF, blanks, slow in parts but never for too long
        {"while read x; do printf '%s\\n' -1.5e-3; done", 10, 2, NULL},
        {"while read x; do printf ' +7 \\r\\n'; done", 10, 2, NULL},
        {"for i in 1 2 3 4; do read x; sleep 0.3; echo .; done | sed -u s/./$i.5/", 1, 1, NULL},
        {"read a; read b; read c; read d; sleep 0.2; printf '1\\n2\\n'; sleep 0.2; printf "
         "'3\\n4\\n'",
         1, 1, NULL},
        // not a number
        {"echo loading; cat", 10, 1, "read \"loading\"; only scores belong on its standard output"},
        {"read a; echo 1; echo 2x; cat", 10, 1,
         "reward program \"read a; echo 1; echo 2x; cat\": row 2 of 4: expected a number, read "
         "\"2x\""},
        {"read a; echo 1 2; cat", 10, 1, "expected a number, read \"1 2\""},
        {"read a; echo 0x10; cat", 10, 1, "expected a number, read \"0x10\""},
        {"read a; echo; cat", 10, 1, "row 1 of 4: expected a number, read \"\""},
        {"read a; printf '1\\0002\\n'; cat", 10, 1, "read \"1\\x002\""},
        {"cat", 10, 1, "read \"{\\\"prompt\\\": "},
        {"read a; head -c 5000 /dev/zero; cat", 10, 1, "\\x00\".."},
        {"read a; echo nan; cat", 10, 1, "the score is not finite, read \"nan\""},
        {"read a; echo -inf; cat", 10, 1, "not finite, read \"-inf\""},
        {"read a; echo 1e39; cat", 10, 1, "not finite, read \"1e39\""},
        // too many, too few
        {"while read x; do echo 1; echo 2; done", 10, 2, "one a line for each row"},
        {"while read x; do n=$((n+1)); echo $n; [ $n = 4 ] && echo 0.25; done", 10, 2,
         ", read \"0.25\""},
        {"yes 1", 10, 2, ", read \"1\"; only"},
        {"read a; echo 1; read b; echo 2", 10, 1,
         "row 3 of 4: exited with code 0 before it answered, read nothing"},
        {"head -n 1", 10, 1, "read \"{"},
        {"read a; echo 1; printf 2", 10, 1,
         "row 2 of 4: exited with code 0 before it answered, read \"2\" without an end of line"},
        // ended, silent
        {"exit 3", 10, 1, "row 1 of 4: exited with code 3 before it answered, read nothing"},
        {"kill -9 $$", 10, 1, "was killed by signal 9 (Killed) before it answered"},
        {"exec 2>/dev/null; sh -c 'kill -11 $$'; exit $?", 10, 1, "code 139 (signal 11: "},
        {"no_such_program_here 2>/dev/null", 10, 1, "exited with code 127 (command not found)"},
        {"/ 2>/dev/null", 10, 1, "exited with code 126 (command cannot be executed)"},
        {"exec >&-; exec sleep 10", 0.2, 1, "closed its standard output before it answered"},
        {"exec sleep 10", 0.2, 1,
         "row 1 of 4: no answer for 0.2 s (--reward_timeout), read nothing; does it flush every "
         "line?"},
        {"read a; echo 1; exec sleep 10", 0.2, 1, "row 2 of 4: no answer for 0.2 s"},
        {"read a; printf 0.5; exec sleep 10", 0.2, 1, "read \"0.5\" without an end of line"},
        {"exec <&-; exec sleep 10", 0.2, 1, "row 1 of 4: no answer for 0.2 s"},
        {"trap '' TERM HUP INT; while :; do sleep 0.1; done", 0.2, 1, "no answer for 0.2 s"},
        {"for i in 1 2 3 4; do read x; echo 1; done", 10, 2,
         "row 1 of 4: exited with code 0 before it answered"},
    };
    Batch rows = make_rows(t);
    for (int i = 0; i < COUNT(cases); i++) {
        const double began = seconds_now();
        char *fault = ask(cases[i].command, cases[i].timeout, &rows, t, NULL, cases[i].times);
        if (!cases[i].says) CHECK(!fault, "%s: %s", cases[i].command, fault);
        else
            CHECK(fault && strstr(fault, cases[i].says) && strstr(fault, "reward program \""),
                  "%s: expected \"%s\", got \"%s\"", cases[i].command, cases[i].says,
                  fault ? fault : "no fault");
        CHECK(seconds_now() - began < 6, "%s: took %g s", cases[i].command, seconds_now() - began);
        free(fault);
    }
    batch_free(&rows);
}

// More than the pipes hold, both ways: a program that answers each row before it reads the next
// one, one that reads all rows first, and one that talks without listening.
static void test_long_batch(const Tokenizer *t) {
    enum { R = 14000 };
    const char *programs[] = {
        "sed -u -e 's/.*eos.*/1.%090d/' -e 's/.*length.*/2.%090d/'",
        "head -n 14000 | sort -r | sed -e 's/.*eos.*/1.%090d/' -e 's/.*length.*/2.%090d/'"};
    Batch rows = {0};
    Text said = {0};
    float *scores = mem_floats(R);
    for (int i = 0; i < R; i++) add_row(&rows, t, "The plot is", " good. I loved it.", i < R / 3);
    for (int i = 0; i < R; i++) reward_print_row(&said, &rows, i, t);
    CHECK(said.size > 1 << 20, "%zu bytes to the program", said.size);
    for (int k = 0; k < COUNT(programs); k++) {
        char *command = text_format(programs[k], 0, 0);
        char *fault = ask(command, 20, &rows, t, scores, 1);
        int wrong = 0;
        for (int i = 0; i < R; i++)
            wrong += scores[i] != (k ? i < R - R / 3 ? 2 : 1 : i < R / 3 ? 1 : 2);
        CHECK(!fault && wrong == 0, "long batch %d: %s, %d scores are wrong", k, fault, wrong);
        free(fault), free(command);
    }
    char *fault = ask("yes 1.0000000000000000000000000000000000000", 10, &rows, t, scores, 1);
    CHECK(fault && (strstr(fault, "one a line") || strstr(fault, "answered")), "flood: %s", fault);
    free(fault), free(scores), text_free(&said), batch_free(&rows);
}

// Nothing of the program's group stays behind, neither after an orderly end nor after a fault.
static void test_group(const Tokenizer *t) {
    Batch rows = make_rows(t);
    char *path = path_join(root, "alive");
    for (int k = 0; k < 2; k++) {
        char *command = text_format("(trap '' HUP TERM; sleep 0.5; echo >%s) >/dev/null & %s", path,
                                    k ? "exit 1" : "sed -un =");
        char *fault = ask(command, 10, &rows, t, NULL, 1);
        CHECK(k ? fault && strstr(fault, "code 1") : !fault, "%s", fault);
        free(fault), free(command);
    }
    nanosleep(&(struct timespec){0, 700000000}, NULL);
    CHECK(access(path, F_OK), "a child of the program's lived on");
    free(path), batch_free(&rows);
}

// A line too many that comes long after its batch: a fault of the next one, or a late warning.
static void test_late(const Tokenizer *t) {
    Batch rows = make_rows(t);
    float scores[4];
    Reward r;
    reward_open_command(&r, "for i in 1 2 3 4; do read x; echo 1; done; sleep 0.1; echo 5; cat", 9);
    char *fault = reward_score(&r, scores, &rows, t);
    CHECK(!fault, "%s", fault);
    nanosleep(&(struct timespec){0, 400000000}, NULL);
    fault = reward_score(&r, scores, &rows, t);
    CHECK(fault && strstr(fault, "row 1 of 4: it answered before it was asked, read \"5\""), "%s",
          fault);
    free(fault);
    fault = reward_score(&r, scores, &rows, t);
    CHECK(fault && strstr(fault, "has been ended"), "%s", fault);
    free(fault), reward_close(&r);
    CHECK_DIES(0, "said 6 bytes more than the scores it was asked for", {
        fault = ask("for i in 1 2 3 4; do read x; echo 1; done; read x; echo 12345", 10, &rows, t,
                    NULL, 1);
        _exit(fault != NULL);
    });
    batch_free(&rows);
}

// A signal that the caller handles (Ctrl-C) neither disturbs the exchange nor reaches the program.
static void test_signal(const Tokenizer *t) {
    Batch rows = make_rows(t);
    CHECK_DIES(0, "", {
        struct sigaction action = {.sa_handler = stop_handler}; // no SA_RESTART: poll is cut short
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 50000}}, NULL);
        _exit(ask("sleep 0.2; while read x; do echo 1; done", 10, &rows, t, NULL, 1) != NULL ||
              stop_signal != SIGALRM);
    });
    struct sigaction now;
    sigaction(SIGPIPE, NULL, &now);
    CHECK(now.sa_handler == SIG_DFL, "SIGPIPE is handled as before");
    batch_free(&rows);
}

// The gold scorer of data/ as a reward program.
static void test_gold(const Tokenizer *t) {
    const char *bin = getenv("BIN");
    char *path = path_join(bin && *bin ? bin : "build/plain", "gold");
    if (access(path, X_OK)) {
        test_skip("no gold program here: make it first");
        free(path);
        return;
    }
    Gold *gold = mem_alloc(1, sizeof *gold);
    gold_create(gold);
    Batch rows = make_rows(t);
    float scores[4] = {0};
    char *fault = ask(path, 20, &rows, t, scores, 2);
    CHECK(!fault, "%s", fault);
    CHECK_NEAR(scores[0], gold_score(gold, "The plot is", " good. I loved it."), 0, 1e-5, "row 1");
    CHECK_NEAR(scores[1], gold_score(gold, "The plot is", " bad."), 0, 1e-5, "row 2");
    CHECK_NEAR(scores[2], gold_score(gold, "The acting", " is not great. Avoid it."), 0, 1e-5,
               "row 3");
    CHECK_NEAR(scores[3], gold_score(gold, "I", ""), 0, 1e-5, "row 4");
    gold_free(gold);
    free(gold), free(path), batch_free(&rows);
}

// ------------------------------------------------------------------------------------------------
// Reward models

static const GPT2Config shape = {.n_positions = 16,
                                 .n_embd = 24,
                                 .n_layer = 2,
                                 .n_head = 3,
                                 .n_inner = 40,
                                 .layer_norm_epsilon = 1e-5f,
                                 .initializer_range = 0.3f,
                                 .bos_token_id = 0,
                                 .eos_token_id = 0,
                                 .pad_token_id = -1};

// Save a random model with this tokenizer (or none), with or without a score, as root/name.
static char *save_model(const char *name, const Tokenizer *t, int vocab_size, bool score) {
    GPT2 model;
    GPT2Config config = shape;
    char *dir = path_join(root, name);
    config.vocab_size = vocab_size;
    config.score_head = score;
    if (score) config.pad_token_id = vocab_size - 1;
    gpt2_create(&model, config);
    gpt2_init_random(&model, 5);
    model_save(&model, t, NULL, dir);
    gpt2_free(&model);
    return dir;
}

// What keeps a directory from being the reward model of a policy.
static void test_model_faults(const Tokenizer *t) {
    Tokenizer other, turned;
    Reward r;
    tokenizer_load(&other, "test/golden/tiny_vocab");
    char *plain = save_model("plain", t, t->vocab_size, false);
    char *small = save_model("small", &other, other.vocab_size + 1, true);
    char *mute = save_model("mute", NULL, t->vocab_size + 1, true);
    CHECK_DIES(EXIT_BAD_INPUT, "no such directory", reward_open_model(&r, "/nowhere", t, 4));
    CHECK_DIES(EXIT_BAD_INPUT, "plain: is a language model without a score",
               reward_open_model(&r, plain, t, 4));
    CHECK_DIES(EXIT_BAD_INPUT, "the policy's", reward_open_model(&r, small, t, 4));
    CHECK_DIES(EXIT_BAD_INPUT, "vocab.json: no such file", reward_open_model(&r, mute, t, 4));
    CHECK_DIES(0, "", {
        reward_open_model(&r, mute, NULL, 4);
        _exit(0);
    });
    // As many tokens, but two of them have changed places; another end of text.
    tokenizer_load(&turned, "data");
    char *dir = save_model("turned", t, t->vocab_size + 1, true);
    char *path = path_join(dir, "vocab.json"), *text = file_read(path, NULL);
    char *good = strstr(text, "\"\xC4\xA0good\""), *great = strstr(text, "\"\xC4\xA0"
                                                                         "great\"");
    CHECK(good && great, "the vocabulary has \" good\" and \" great\"");
    memcpy(good, "\"\xC4\xA0zood\"", 8);
    FILE *file = fopen(path, "wb");
    fputs(text, file), fclose(file), free(text);
    char *merges = path_join(dir, "merges.txt"), *json = path_join(dir, "tokenizer.json");
    remove(json); // or it would count, not these two
    free(json);
    file = fopen(merges, "wb");
    fputs("#version: 0.2\n", file), fclose(file);
    CHECK_DIES(EXIT_BAD_INPUT, "\" zood\" for the reward model and \" good\" for the policy",
               reward_open_model(&r, dir, t, 4));
    turned.eos_id = 3;
    char *sound = save_model("sound", t, t->vocab_size + 1, true);
    CHECK_DIES(EXIT_BAD_INPUT, "the end-of-text token is 1480 for the reward model and 3",
               reward_open_model(&r, sound, &turned, 4));
    // Lists.
    char *lists[] = {text_format("%s,", sound), text_format(",%s", sound),
                     text_format("%s,,%s", sound, sound)};
    for (int i = 0; i < COUNT(lists); i++) {
        CHECK_DIES(EXIT_USAGE, "expected DIR or DIR,DIR,..", reward_open_model(&r, lists[i], t, 4));
        free(lists[i]);
    }
    char *with_plain = text_format("%s,%s", sound, plain);
    CHECK_DIES(EXIT_BAD_INPUT, "plain: is a language model without a score",
               reward_open_model(&r, with_plain, t, 4));
    free(with_plain);
    tokenizer_free(&other), tokenizer_free(&turned);
    free(plain), free(small), free(mute), free(dir), free(path), free(merges), free(sound);
}

// Scores are those of each row alone, whatever the number of rows at a time; a row beyond the
// context is scored by its end; a score that is not finite is a fault.
static void test_model(const Tokenizer *t) {
    char *dir = save_model("reward", t, t->vocab_size + 1, true);
    Batch rows = make_rows(t), one = {0}, end = {0};
    add_row(&rows, t, "The plot is good. The acting is great. I loved it. The plot is",
            " bad. The acting is not great.", true);
    const int at = rows.row_start[4], n = rows.N - at;
    CHECK(n > shape.n_positions, "%d tokens: the last row is too long", n);
    batch_add_row(&end, rows.tokens + at + n - shape.n_positions, NULL, shape.n_positions);
    float scores[5], value[16];
    Reward r;
    reward_open_model(&r, dir, t, 1);
    for (; r.max_rows <= 6; r.max_rows++) {
        char *fault = reward_score(&r, scores, &rows, t);
        CHECK(!fault && r.warned && !r.models[0].grads, "%s", fault);
        for (int i = 0; i < rows.R; i++) {
            const int begin = rows.row_start[i];
            batch_clear(&one);
            batch_add_row(&one, rows.tokens + begin, NULL, rows.row_start[i + 1] - begin);
            gpt2_forward(&r.models[0], i < 4 ? &one : &end);
            value_head_forward(&r.models[0], value);
            const float want = value[(i < 4 ? one.N : end.N) - 1];
            // Another shape of batch, another order of sums of 40 numbers around 1.
            CHECK_NEAR(scores[i], want, 1e-5, 1e-5, "row %d, %d at a time", i, r.max_rows);
            CHECK(i == 0 || fabsf(scores[i] - scores[i - 1]) > 1e-3f, "rows differ");
        }
    }
    // A cut row is scored as the same row with EOS, one that has it is not touched.
    r.append_eos = true;
    char *eos_fault = reward_score(&r, scores, &rows, t);
    CHECK(!eos_fault, "%s", eos_fault);
    int cut = 0;
    for (int i = 0; i < rows.R; i++) {
        const int *row = rows.tokens + rows.row_start[i];
        const int all = rows.row_start[i + 1] - rows.row_start[i];
        const bool ended = row[all - 1] == t->eos_id;
        const int room = ended ? shape.n_positions : shape.n_positions - 1;
        const int kept = all < room ? all : room;
        batch_clear(&one);
        batch_add_row(&one, row + all - kept, NULL, kept);
        if (!ended) batch_lengthen(&one, t->eos_id);
        gpt2_forward(&r.models[0], &one);
        value_head_forward(&r.models[0], value);
        CHECK(one.R == 1 && one.N == kept + !ended, "row %d has %d tokens", i, one.N);
        CHECK_NEAR(scores[i], value[one.N - 1], 1e-5, 1e-5, "row %d with EOS", i);
        cut += !ended;
    }
    CHECK(cut > 0 && cut < rows.R, "%d of %d rows are cut", cut, rows.R);
    r.append_eos = false;
    r.models[0].w.score[0] = NAN;
    char *fault = reward_score(&r, scores, &rows, t);
    CHECK(fault && strstr(fault, "row 1 of 5: the score is nan"), "%s", fault);
    free(fault);
    reward_close(&r);
    batch_free(&rows), batch_free(&one), batch_free(&end);
    free(dir);
}

// An ensemble of three: a model, one whose scores are minus those, one whose scores are twice those.
static void test_ensemble(const Tokenizer *t) {
    char *dir = save_model("member", t, t->vocab_size + 1, true);
    char *dirs = text_format("%s,%s,%s", dir, dir, dir);
    char *comma = path_join(root, "member,two"), *link = text_format("ln -s member %s", comma);
    Batch rows = make_rows(t);
    float one[4], scores[4];
    Reward r;
    CHECK(system(link) == 0, "%s", link);
    reward_open_model(&r, comma, t, 4); // a directory's name, not a list
    CHECK(r.n_models == 1 && !reward_score(&r, one, &rows, t), "%d models", r.n_models);
    reward_close(&r);
    for (int max_rows = 1; max_rows <= 4; max_rows += 3) {
        reward_open_model(&r, dirs, t, max_rows);
        CHECK(r.n_models == 3 && r.ensemble == ENSEMBLE_MEAN, "%d models", r.n_models);
        for (int c = 0; c < r.models[0].config.n_embd; c++) {
            r.models[1].w.score[c] *= -1;
            r.models[2].w.score[c] *= 2;
        }
        char *fault = reward_score(&r, scores, &rows, t);
        CHECK(!fault, "%s", fault);
        for (int i = 0; i < 4; i++)
            CHECK_NEAR(scores[i], one[i] * 2 / 3, 1e-5, 1e-5, "mean of row %d", i);
        r.ensemble = ENSEMBLE_MIN;
        fault = reward_score(&r, scores, &rows, t);
        CHECK(!fault, "%s", fault);
        for (int i = 0; i < 4; i++)
            CHECK_NEAR(scores[i], fminf(-one[i], 2 * one[i]), 1e-5, 1e-5, "least of row %d", i);
        r.models[2].w.score[0] = NAN;
        fault = reward_score(&r, scores, &rows, t);
        CHECK(fault && strstr(fault, "row 1 of 4: the score is nan"), "%s", fault);
        free(fault);
        reward_close(&r);
    }
    // Rows have the room that the smallest context leaves.
    reward_open_model(&r, dirs, t, 4);
    r.models[1].config.n_positions -= 3;
    CHECK(reward_positions(&r) == shape.n_positions - 3, "%d positions", reward_positions(&r));
    reward_close(&r);
    free(dir), free(dirs), free(comma), free(link);
    batch_free(&rows);
}

int main(void) {
    Tokenizer tokenizer;
    root = text_copy("/tmp/test_reward.XXXXXX");
    if (!mkdtemp(root)) die(EXIT_IO, "mkdtemp");
    if (!path_is_dir("test/golden/tiny_vocab")) {
        test_skip("run me from the project's directory: no test/golden");
        return test_end("test_reward");
    }
    tokenizer_load(&tokenizer, "data");
    test_rows(&tokenizer);
    test_faults(&tokenizer);
    test_long_batch(&tokenizer);
    test_group(&tokenizer);
    test_late(&tokenizer);
    test_signal(&tokenizer);
    test_gold(&tokenizer);
    test_model_faults(&tokenizer); // its children come before the threads of the next test
    test_model(&tokenizer);
    test_ensemble(&tokenizer);
    tokenizer_free(&tokenizer);
    char *command = text_format("rm -rf %s", root);
    CHECK(system(command) == 0, "clean up");
    free(command), free(root);
    return test_end("test_reward");
}
