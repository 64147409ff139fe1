// generate.c: let a GPT-2 write. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp generate.c -o generate -lopenblas -lcjson -lm
//
// Prompts come from the command line, from a file, or line by line from standard input:
//
//     ./generate --model DIR --prompt "The film"
//     ./generate --model DIR --dataset prompts.jsonl --output completions.jsonl
//     ./generate --model DIR --chat_format hh --log talks.jsonl
//
// Without arguments the model that ships in data/sft completes a few film reviews.
#include "lib/base/common.h"
#include "lib/base/disk.h"
#include "lib/base/json.h"
#include "lib/base/flags.h"
#include "lib/base/texts.h"
#include "lib/base/tokenizer.h"
#include "lib/data/dataset.h"
#include "model.h"
#include "lib/files/guard.h"
#include "lib/files/pretrained.h"
#include "lib/run/sample.h"

static const char preset[] = "--model data/sft --dataset data/reviews_eval.jsonl --max_samples 8 "
                             "--top_k 0";

// What all ways of generating share.
typedef struct {
    GPT2 model;
    Tokenizer tokenizer;
    Sampler sampler;
    SampleOptions options;
    int return_sequences, batch_size;
    bool chat;        // prompts are what a user says
    bool strict;      // a record without a prompt to complete is an error
    const char *name; // of the model: its directory
    int log;          // file of what was said and answered; -1: none
    ChatFormat format;
    // What the report tells:
    int64_t tokens, cut, finished[4]; // sampled; prompts cut to the context; rows by Finish
} Generator;

// Append a prompt (n tokens) to a batch. One that leaves less room than max_new_tokens, but not
// less than half of the context, loses its beginning. An empty one becomes the end of the text
// before: that is how a model that was trained on whole texts is told to begin.
static void prompt_add(Generator *g, Batch *prompts, const int *tokens, size_t n) {
    const size_t keep = prompt_room(g->model.config.n_positions, g->options.max_new_tokens);
    g->cut += n > keep;
    if (n > keep) tokens += n - keep, n = keep;
    batch_add_row(prompts, n ? tokens : &g->tokenizer.eos_id, NULL, n ? (int)n : 1);
}

// Append what was sampled for a row as text, without EOS; a broken character becomes U+FFFD.
static void completion_text(Text *out, Generator *g, const SampleRow *row) {
    int n = row->n - row->n_prompt;
    if (row->finish == FINISH_EOS) n--;
    text_add_tokens(out, &g->tokenizer, row->tokens + row->n_prompt, (size_t)n);
}

// Sample all rows of a batch to their ends.
static void batch_generate(Generator *g, const Batch *prompts, uint64_t first_row) {
    sampler_begin(&g->sampler, &g->model, &g->options, prompts, first_row);
    while (sampler_step(&g->sampler) > 0) continue;
    for (int r = 0; r < g->sampler.R; r++) {
        const SampleRow *row = &g->sampler.rows[r];
        g->finished[row->finish]++;
        g->tokens += row->n - row->n_prompt;
    }
}

// What the user said in a turn of a talk, what was answered, and where in the talk's tokens that begins.
typedef struct {
    char *said, *answered; // NULL: not yet
    size_t answer;
} Turn;

// Append turns as a list of messages.
static void turns_json(Text *out, const Turn *turns, int n) {
    text_print(out, "[");
    for (int i = 0; i < n; i++) {
        text_print(out, i ? ", " : "");
        message_json(out, "user", turns[i].said);
        if (turns[i].answered) text_print(out, ", ");
        if (turns[i].answered) message_json(out, "assistant", turns[i].answered);
    }
    text_print(out, "]");
}

// Append a line to the log, if there is one (--log): what was said before, n turns of a talk or, if that is 0, the
// text `prompt`, and the answer. label shows and scores such logs. One write, so that two programs may share one.
static void log_answer(const Generator *g, const char *prompt, const Turn *turns, int n,
                       const Text *completion) {
    Text line = {0};
    if (g->log < 0) return;
    text_print(&line, "{\"when\": ");
    text_time(&line);
    text_print(&line, ", \"model\": ");
    text_string(&line, g->name);
    text_print(&line, ", \"seed\": %" PRIu64 ", \"prompt\": ", g->options.seed);
    if (n) turns_json(&line, turns, n);
    else text_string(&line, prompt);
    text_print(&line, ", \"completion\": ");
    text_json(&line, completion->data, completion->size);
    text_print(&line, "}\n");
    if (disk_write(g->log, line.data, line.size))
        die(EXIT_IO, "--log: cannot write: %s", strerror(errno));
    text_free(&line);
}

// Sample one row and print it while it grows; `reply`: without the blank that it begins with. `said`
// gets all of it.
static void stream_generate(Generator *g, const Batch *prompts, uint64_t first_row, bool reply,
                            Text *said) {
    Text text = {0};
    TokenStream stream = {0};
    sampler_begin(&g->sampler, &g->model, &g->options, prompts, first_row);
    const SampleRow *row = &g->sampler.rows[0];
    while (!row->finish) {
        sampler_step(&g->sampler);
        if (row->finish != FINISH_EOS)
            token_stream_add(&stream, &g->tokenizer, &text, row->tokens[row->n - 1]);
        if (row->finish) token_stream_end(&stream, &text);
        size_t skip = reply && text.size && text.data[0] == ' ';
        if (text.size) reply = false, fwrite(text.data + skip, 1, text.size - skip, stdout);
        text_append(said, text.data + skip, text.size - skip);
        fflush(stdout);
        text.size = 0;
    }
    text_free(&text);
}

// ------------------------------------------------------------------------------------------------
// From the command line

static void generate_prompt(Generator *g, const char *prompt) {
    size_t n = strlen(prompt), bad = utf8_check(prompt, n);
    if (bad < n) die(EXIT_USAGE, "--prompt: invalid UTF-8 at byte %zu", bad + 1);
    Text text = {0};
    TokenList ids = {0};
    if (g->chat) {
        chat_turn(&text, g->format, "user", prompt);
        chat_turn(&text, g->format, "assistant", NULL);
    } else {
        text_append(&text, prompt, n);
        tokenizer_begin(&g->tokenizer, &ids);
    }
    chat_encode(&g->tokenizer, &ids, text.data, text.size);
    Batch batch = {0};
    prompt_add(g, &batch, ids.data, ids.n);
    for (int i = 1; i < g->return_sequences; i++) prompt_add(g, &batch, ids.data, ids.n);
    if (g->return_sequences == 1) {
        if (!g->chat) printf("%s", prompt);
        Text said = {0};
        text_append(&said, "", 0);
        stream_generate(g, &batch, 0, g->chat, &said);
        printf("\n");
        log_answer(g, prompt, &(Turn){.said = (char *)prompt}, g->chat, &said);
        text_free(&said);
    } else {
        batch_generate(g, &batch, 0);
        for (int i = 0; i < g->return_sequences; i++) {
            text.size = 0;
            completion_text(&text, g, &g->sampler.rows[i]);
            printf("[%d] %s%s\n", i + 1, g->chat ? "" : prompt, text.size ? text.data : "");
        }
    }
    text_free(&text), tokens_free(&ids), batch_free(&batch);
}

// ------------------------------------------------------------------------------------------------
// As a talk

// Forget the first of n turns. The next one then begins the talk, with all that the chat's form puts
// there (a token, the template's own system message). Returns n - 1.
static int turn_forget(const Generator *g, TokenList *ids, Turn *turns, int n) {
    free(turns[0].said), free(turns[0].answered);
    memmove(turns, turns + 1, (size_t)--n * sizeof *turns);
    Text text = {0};
    TokenList kept = {0};
    chat_turn(&text, g->format, "user", turns[0].said);
    chat_turn(&text, g->format, "assistant", NULL);
    chat_encode(&g->tokenizer, &kept, text.data, text.size);
    const size_t from = turns[0].answer, to = kept.n;
    for (size_t i = from; i < ids->n; i++) tokens_append(&kept, ids->data[i]);
    for (int i = 0; i < n; i++) turns[i].answer = turns[i].answer - from + to;
    text_free(&text), tokens_free(ids);
    *ids = kept;
    return n;
}

// Answer every line of standard input until it ends. Without a chat format each line is a text of
// its own; with one, the talk so far goes before it, as many of its turns as the context has room
// for.
static void generate_talk(Generator *g) {
    LineReader lines;
    lines_open_fd(&lines, STDIN_FILENO, "standard input");
    Text text = {0};
    TokenList ids = {0};
    Turn *turns = NULL;
    int n_turns = 0;
    Batch batch = {0};
    const bool terminal = isatty(STDIN_FILENO);
    const size_t room = prompt_room(g->model.config.n_positions, g->options.max_new_tokens);
    for (uint64_t turn = 0;; turn++) {
        if (terminal) printf("> ");
        fflush(stdout);
        if (!lines_next(&lines)) break;
        const char *line = lines.line.data;
        size_t n = lines.line.size, bad;
        if (n && line[n - 1] == '\r') lines.line.data[--n] = 0;
        if ((bad = utf8_check(line, n)) < n)
            die(EXIT_BAD_INPUT, "%s:%ld:%zu: invalid UTF-8 byte 0x%02X", lines.path, lines.number,
                bad + 1, (unsigned char)line[bad]);
        if (memchr(line, 0, n))
            die(EXIT_BAD_INPUT, "%s:%ld: contains a NUL byte", lines.path, lines.number);
        text.size = 0;
        size_t before = 0;
        if (g->chat) {
            if (ids.n && chat_has_tokens(g->format)) chat_token(&text, g->format.end);
            else if (ids.n) text_append(&text, " ", before = 1);
            // What is now in `text` tells chat_turn that other turns were before.
            chat_turn(&text, g->format, "user", line);
            chat_turn(&text, g->format, "assistant", NULL);
        } else {
            ids.n = 0;
            text_append(&text, line, n);
            tokenizer_begin(&g->tokenizer, &ids);
        }
        chat_encode(&g->tokenizer, &ids, text.data + before, text.size - before);
        if (g->chat) {
            turns = mem_resize(turns, (size_t)n_turns + 1, sizeof *turns);
            turns[n_turns++] = (Turn){.said = text_copy(line), .answer = ids.n};
        }
        while (n_turns > 1 && ids.n > room) n_turns = turn_forget(g, &ids, turns, n_turns);
        batch_clear(&batch);
        prompt_add(g, &batch, ids.data, ids.n);
        if (!g->chat) printf("%s", line);
        Text said = {0};
        text_append(&said, "", 0);
        stream_generate(g, &batch, turn, g->chat, &said);
        printf("\n");
        log_answer(g, line, turns, n_turns, &said);
        if (g->chat) turns[n_turns - 1].answered = text_copy(said.data);
        text_free(&said);
        const SampleRow *row = &g->sampler.rows[0];
        if (row->finish == FINISH_CONTEXT)
            warn("the context of %d tokens is full", g->model.config.n_positions);
        for (int i = row->n_prompt; i < row->n - (row->finish == FINISH_EOS); i++)
            tokens_append(&ids, row->tokens[i]);
    }
    if (terminal) printf("\n");
    for (int i = 0; i < n_turns; i++) free(turns[i].said), free(turns[i].answered);
    free(turns);
    text_free(&text), lines_close(&lines);
    tokens_free(&ids), batch_free(&batch);
}

// ------------------------------------------------------------------------------------------------
// From a file

// Draft the prompt of a record: its column `prompt`, a string or a list of messages. Dies where
// faults of content are errors (`strict`) and there is one.
static void record_prompt(Draft *d, const Generator *g, const LineReader *r, const cJSON *record) {
    draft_clear(d, r);
    const cJSON *prompt = draft_column(d, r, record, "prompt");
    if (cJSON_IsArray(prompt)) {
        const char *last = draft_messages(d, r, prompt, "prompt", g->format, false);
        const bool open = last && !strcmp(last, "assistant"); // to be continued
        if (!open) draft_turn(d, g->format, "assistant", NULL);
        else chat_reopen(&d->text, g->format);
    } else if (prompt) {
        const char *s = record_string(r, record, "prompt");
        d->chat = g->chat;
        if (g->chat) {
            draft_turn(d, g->format, "user", s);
            draft_turn(d, g->format, "assistant", NULL);
        } else text_append(&d->text, s, strlen(s));
    }
    draft_end_part(d, false, "prompt");
    if (d->fault[0] && g->strict) die(EXIT_BAD_INPUT, "%s:%ld: %s", r->path, r->number, d->fault);
}

// Append a record's members as they are as the beginning of a JSON object, all but those that we add
// (`error` only if there is one). Bytes that are not UTF-8 become U+FFFD.
static void record_head(Text *out, const LineReader *r, bool error) {
    static const char *const added[] = {"completion", "finish_reason", "error"};
    Text members = {0};
    record_copy(&members, r, added, error ? 3 : 2);
    text_append(out, "{", 1);
    text_append_repaired(out, members.data, members.size);
    text_free(&members);
}

// Read all files once, so that a mistake in the last line is found before hours of sampling. Returns
// the number of records, at most max_samples of them if that is above 0.
static int64_t records_check(Generator *g, const char *path, int64_t max_samples) {
    LineReader lines;
    Draft draft = {0};
    int64_t n = 0, faults = 0;
    lines_open(&lines, path);
    for (cJSON *record; (record = record_next(&lines)); cJSON_Delete(record)) {
        record_prompt(&draft, g, &lines, record);
        n++;
        if (max_samples && n > max_samples) continue;
        if (draft.fault[0] && ++faults <= 3)
            warn("%s:%ld: %s: no completion", lines.path, lines.number, draft.fault);
    }
    lines_close(&lines), draft_free(&draft);
    if (n == 0) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    if (max_samples > 0 && max_samples < n) n = max_samples;
    if (faults == n)
        die(EXIT_BAD_INPUT, "%s: none of %" PRId64 " records has a prompt to complete", path, n);
    return n;
}

// A record on its way: what goes before its completions, and why it gets none (NULL: it does).
typedef struct {
    Text head;
    char *fault;
} Pending;

// Append the lines of a record: its per_record completions (the rows from `row` on), or as many lines
// that name its fault, so that there is a line for each of them.
static void record_lines(Text *out, Generator *g, const Pending *record, int row, int per_record,
                         bool json) {
    Text text = {0};
    for (int k = 0; k < per_record; k++) {
        const SampleRow *sampled = record->fault ? NULL : &g->sampler.rows[row + k];
        text.size = 0;
        text_append(&text, "", 0);
        if (sampled) completion_text(&text, g, sampled);
        if (!json && sampled) text_print(out, "%s |%s\n", record->head.data, text.data);
        else if (!json) text_print(out, "(no completion: %s)\n", record->fault);
        else if (sampled) {
            text_print(out, "%s\"completion\": ", record->head.data);
            text_json(out, text.data, text.size);
            text_print(out, ", \"finish_reason\": \"%s\"}\n", finish_name(sampled->finish));
        } else {
            text_print(out, "%s\"completion\": null, \"finish_reason\": \"error\", \"error\": ",
                       record->head.data);
            text_json(out, record->fault, strlen(record->fault));
            text_print(out, "}\n");
        }
    }
    text_free(&text);
}

// Complete the records of a JSONL file, batch_size at a time. With `output` each record is written
// there with the columns `completion` and `finish_reason` (once for every sequence that is asked
// for), else prompt and completion are printed. A record with a fault of content keeps its place:
// its completion is null, and the column `error` says why; the others are completed as without it.
// The output gets its name when it is complete.
static void generate_file(Generator *g, const char *path, const char *output, int64_t max_samples) {
    const int64_t total = records_check(g, path, max_samples);
    DiskFile file = {0};
    if (output) file = disk_file_begin(output);
    if (file.error) die(EXIT_IO, "%s: cannot create: %s", output, strerror(file.error));
    const int per_record = g->return_sequences;
    const int at_once = g->batch_size > per_record ? g->batch_size / per_record : 1; // records
    Pending *pending = mem_alloc((size_t)at_once, sizeof *pending);
    Text out = {0};
    Draft draft = {0};
    TokenList ids = {0};
    Batch batch = {0};
    LineReader lines;
    lines_open(&lines, path);
    const double began = seconds_now();
    int failed = 0; // errno of the first write that failed
    int64_t faults = 0;
    for (int64_t done = 0; done < total && !failed;) {
        int n = 0;
        const uint64_t first_row = (uint64_t)(done - faults) * (uint64_t)per_record;
        batch_clear(&batch);
        for (; n < at_once && done + n < total; n++) {
            cJSON *record = record_next(&lines);
            if (!record) die(EXIT_BAD_INPUT, "%s: has become shorter while it was read", path);
            record_prompt(&draft, g, &lines, record);
            ids.n = pending[n].head.size = 0;
            pending[n].fault = draft.fault[0] ? text_copy(draft.fault) : NULL;
            faults += draft.fault[0] != 0;
            if (!draft.fault[0]) {
                draft_begin(&draft, &g->tokenizer, &ids);
                chat_encode(&g->tokenizer, &ids, draft.text.data, draft.text.size);
                for (int k = 0; k < per_record; k++) prompt_add(g, &batch, ids.data, ids.n);
            }
            if (output) record_head(&pending[n].head, &lines, pending[n].fault);
            else chat_show(&pending[n].head, draft.text.data, draft.text.size);
            cJSON_Delete(record);
        }
        if (batch.R) batch_generate(g, &batch, first_row);
        out.size = 0;
        for (int i = 0, row = 0; i < n; i++) {
            record_lines(&out, g, &pending[i], row, per_record, output);
            if (!pending[i].fault) row += per_record;
            free(pending[i].fault);
        }
        if (output) {
            disk_file_write(&file, out.data, out.size);
            failed = file.error;
        } else if (fwrite(out.data, 1, out.size, stdout) != out.size) failed = errno;
        done += n;
        if (output)
            progress_show("%" PRId64 " of %" PRId64 " records  %.0f tokens/s", done, total,
                          (double)g->tokens / (seconds_now() - began));
    }
    if (output) failed = disk_file_end(&file, true);
    else if (!failed && fflush(stdout)) failed = errno;
    if (failed)
        die(EXIT_IO, "%s: cannot write: %s", output ? output : "standard output", strerror(failed));
    progress_clear();
    printf("%s%" PRId64 " prompts, %" PRId64 " tokens, %.0f tokens/s; ended by eos %" PRId64
           ", length %" PRId64 ", context %" PRId64 "\n",
           output ? "" : "\n", total - faults, g->tokens,
           (double)g->tokens / (seconds_now() - began), g->finished[FINISH_EOS],
           g->finished[FINISH_LENGTH], g->finished[FINISH_CONTEXT]);
    if (faults)
        warn("%" PRId64 " of %" PRId64 " records have no completion; see their error", faults,
             total);
    if (g->cut) warn("%" PRId64 " prompts were too long and lost their beginning", g->cut);
    if (output) printf("completions: %s\n", output);
    for (int i = 0; i < at_once; i++) text_free(&pending[i].head);
    free(pending), text_free(&out), draft_free(&draft);
    tokens_free(&ids), batch_free(&batch), lines_close(&lines);
}

// ------------------------------------------------------------------------------------------------

int main(int argc, char **argv) {
    // Names and defaults are transformers', but for max_new_tokens (20 there).
    struct {
        const char *model, *prompt, *dataset, *output, *log, *chat_format;
        double temperature, top_p;
        int top_k, max_new_tokens, num_return_sequences, batch_size;
        int64_t seed, max_samples;
        bool strict_data, bf16, overwrite_output;
    } args = {
        .model = "data/sft",
        .chat_format = "none",
        .temperature = 1,
        .top_p = 1,
        .top_k = 50,
        .max_new_tokens = 100,
        .num_return_sequences = 1,
        .batch_size = 32,
        .seed = 42,
    };
    Flag flags[] = {
        FLAG_HEADING("model and prompts (without --prompt and --dataset: lines of standard input)"),
        FLAG_TEXT(args, model, "directory in Hugging Face format"),
        FLAG_TEXT(args, prompt, "one prompt"),
        FLAG_TEXT(args, dataset, "JSONL with a column prompt: text or messages"),
        FLAG(args, max_samples, 0, 1e15, "read no more records than this (0: all)"),
        FLAG_SWITCH(args, strict_data, "a record without a usable prompt is an error"),
        FLAG_CHOICE(args, chat_format, "none|" CHAT_CHOICES,
                    "a prompt is what a user says, and the model answers (none: it continues)"),
        FLAG_HEADING("sampling"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "tokens to sample for each prompt at most"),
        FLAG(args, temperature, 0, 100, "divides the logits (0: always the most probable token)"),
        FLAG(args, top_k, 0, 1 << 30, "draw from so many most probable tokens (0: all)"),
        FLAG(args, top_p, 0, 1, "draw from the fewest that have this share (1: all)"),
        FLAG(args, num_return_sequences, 1, 1 << 16, "completions of each prompt"),
        FLAG(args, seed, 0, 9e15, "of the random numbers"),
        FLAG(args, batch_size, 1, 1 << 16, "completions to sample at once"),
        FLAG_SWITCH(args, bf16, "products in bfloat16: half the memory to read for a token"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output,
                  "JSONL: the records of --dataset with completion and finish_reason"),
        FLAG_SWITCH(args, overwrite_output, "replace that file if it is there"),
        FLAG_TEXT(args, log,
                  "JSONL to append what was said and answered to (not with --dataset); see label"),
    };
    const char *config_file =
        flags_parse(argc, argv, flags, COUNT(flags), "sample text from a GPT-2", preset);
    const bool prompt = flag_given(flags, COUNT(flags), "prompt");
    if (prompt && args.dataset) die(EXIT_USAGE, "give either --prompt or --dataset");
    if (args.output && !args.dataset) die(EXIT_USAGE, "--output needs --dataset");
    const bool talk = !prompt && !args.dataset;
    if (talk && args.num_return_sequences > 1)
        die(EXIT_USAGE, "--num_return_sequences needs --prompt or --dataset");
    if (args.log && (args.dataset || args.num_return_sequences > 1))
        die(EXIT_USAGE, "--log is for one prompt or a talk");
    if (args.output && path_is_dir(args.output))
        die(EXIT_USAGE, "--output %s: is a directory, expected the name of a file", args.output);
    if (args.output && !access(args.output, F_OK) && !args.overwrite_output)
        die(EXIT_USAGE, "--output %s: already there; see --overwrite_output", args.output);
    guard_output(args.output, config_file, flags, COUNT(flags), "output");
    guard_output(args.log, config_file, flags, COUNT(flags), "log");

    Generator g = {
        .options = {.temperature = args.temperature,
                    .top_k = args.top_k,
                    .top_p = args.top_p,
                    .seed = (uint64_t)args.seed,
                    .max_new_tokens = args.max_new_tokens},
        .return_sequences = args.num_return_sequences,
        .batch_size = args.batch_size,
        .chat = strcmp(args.chat_format, "none") != 0,
        .strict = args.strict_data,
    };
    model_load(&g.model, args.model);
    tokenizer_load(&g.tokenizer, args.model);
    if (g.tokenizer.vocab_size > g.model.config.vocab_size)
        die(EXIT_BAD_INPUT, "%s: the tokenizer has %d tokens, the model's vocabulary only %d",
            args.model, g.tokenizer.vocab_size, g.model.config.vocab_size);
    g.format = chat_open(g.chat ? args.chat_format : "auto", &g.tokenizer, args.model);
    products_begin_on(stderr, args.bf16); // stdout is for the text
    g.options.eos_id = g.tokenizer.eos_id;
    const Stops stops = stops_read(args.model, g.model.config.vocab_size);
    g.options.stop_ids = stops.ids, g.options.n_stops = stops.n;
    g.options.vocab_size = g.tokenizer.vocab_size;

    g.name = args.model;
    g.log = args.log ? disk_open(args.log, O_WRONLY | O_APPEND | O_CREAT) : -1;
    if (args.log && g.log < 0) die(EXIT_IO, "%s: cannot open: %s", args.log, strerror(errno));

    if (prompt) generate_prompt(&g, args.prompt ? args.prompt : "");
    else if (args.dataset) generate_file(&g, args.dataset, args.output, args.max_samples);
    else generate_talk(&g);

    if (g.log >= 0) disk_close(g.log);
    sampler_free(&g.sampler), gpt2_free(&g.model), tokenizer_free(&g.tokenizer);
    flags_free(flags, COUNT(flags));
    return stdout_end();
}
