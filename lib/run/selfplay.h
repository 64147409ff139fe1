// selfplay.h: a player completes the prompts of a data set, and what it wrote is set beside what
// the data has: pairs of a real and a generated completion. From top to bottom: playing; the files
// that keep what was generated,
//
//     OUT/iteration-<t>/synthetic.jsonl     a line for each pair: prompt, real, generated, finish
//                                           ("eos", or "length" where it was cut), generated_ids
//
// for people to read, and for a run that goes on in the middle of an iteration.
#ifndef SELFPLAY_H
#define SELFPLAY_H

#include "../base/jsonl.h"       // defines: LineReader, record_next, record_item
#include "../base/texts.h"       // defines: text_add_json
#include "../data/preferences.h" // defines: PairSet, LabelSet, pieces_add, spread
#include "../files/checkpoint.h" // defines: Output, Stage
#include "run.h"                 // defines: Run, run_keep_u64
#include "sample.h"              // defines: Sampler, sampler_begin, sampler_step

// ------------------------------------------------------------------------------------------------
// Playing

// Append the pair of example i with a generated completion of n tokens, which is cut as the real
// one was: to max_length tokens with the prompt. `ids` is scratch.
static void pair_add(PairSet *pairs, TokenList *ids, const LabelSet *data, int i,
                     const int *generated, size_t n) {
    const size_t *start = data->start + 2 * (size_t)i;
    const size_t prompt = start[1] - start[0], both = start[2] - start[0];
    const size_t room = (size_t)data->max_length - prompt;
    if (n > room) n = room;
    ids->n = 0;
    for (size_t k = 0; k < both; k++) tokens_append(ids, data->tokens[start[0] + k]);
    for (size_t k = 0; k < n; k++) tokens_append(ids, generated[k]);
    const size_t begin[3] = {0, prompt, both}, end[3] = {prompt, both, both + n};
    pieces_add(pairs, ids->data, begin, end, 1);
}

// Let the player complete the prompts of n examples that are spread over the data, B at a time:
// pair i is prompt, real and generated completion of the i-th of them. Its completion draws from
// random stream first_row + i of the options' seed. False if asked to stop before the end.
static bool pairs_play(PairSet *pairs, const GPT2 *player, const LabelSet *data, int n,
                       const SampleOptions *options, uint64_t first_row, int B) {
    Batch prompts = {0};
    Sampler sampler = {0};
    TokenList ids = {0};
    SampleOptions o = *options;
    if (o.max_new_tokens >= data->max_length) o.max_new_tokens = data->max_length - 1;
    *pairs = (PairSet){.pieces = 3, .max_length = data->max_length};
    for (int first = 0; first < n && !stop_signal; first += B) {
        batch_clear(&prompts);
        for (int i = first; i < n && i < first + B; i++) {
            const size_t *start = data->start + 2 * (size_t)spread(i, n, data->n);
            batch_add_row(&prompts, data->tokens + start[0], NULL, (int)(start[1] - start[0]));
        }
        sampler_begin(&sampler, player, &o, &prompts, first_row + (uint64_t)first);
        while (!stop_signal && sampler_step(&sampler) > 0) continue;
        for (int r = 0; r < prompts.R && !stop_signal; r++) {
            const SampleRow *row = &sampler.rows[r];
            pair_add(pairs, &ids, data, spread(first + r, n, data->n), row->tokens + row->n_prompt,
                     (size_t)(row->n - row->n_prompt));
        }
        progress_show("self-play: %d of %d completions", pairs->n, n);
    }
    progress_clear();
    sampler_free(&sampler);
    batch_free(&prompts);
    tokens_free(&ids);
    return pairs->n == n;
}

// ------------------------------------------------------------------------------------------------
// Files

// Write what iteration t generated, and beside it the player that did, as a model directory (not if
// that is NULL). The ids are for going on: the text of a cut completion may not lead back to them.
static void iteration_save(const Output *out, int64_t t, const PairSet *pairs,
                           const Tokenizer *tokenizer, const GPT2 *player) {
    static const char *const keys[] = {"prompt", "real", "generated"};
    Stage s;
    Text lines = {0};
    char *name = text_format("iteration-%" PRId64, t);
    for (int i = 0; i < pairs->n; i++) {
        const size_t *start = pairs->start + 3 * (size_t)i;
        text_append(&lines, "{", 1);
        for (int k = 0; k < 3; k++) {
            text_print(&lines, "\"%s\": ", keys[k]);
            text_add_json(&lines, tokenizer, pairs->tokens + start[k], start[k + 1] - start[k]);
            text_append(&lines, ", ", 2);
        }
        const bool ended = pairs->tokens[start[3] - 1] == tokenizer->eos_id;
        text_print(&lines, "\"finish\": \"%s\", \"generated_ids\": [", ended ? "eos" : "length");
        for (size_t j = start[2]; j < start[3]; j++)
            text_print(&lines, "%s%d", j > start[2] ? "," : "", pairs->tokens[j]);
        text_append(&lines, "]}\n", 3);
    }
    stage_begin(&s, out->dir, name, lines.size + (player ? stage_bytes(player, tokenizer, 1) : 0),
                "the checkpoints are kept");
    if (player) output_stage(&s, out, player, tokenizer);
    stage_text(&s, "synthetic.jsonl", &lines);
    stage_commit(&s);
    free(name);
}

// The same if the file is not there, as when a run goes on in another directory.
static void iteration_copy(const Output *out, int64_t t, const PairSet *pairs,
                           const Tokenizer *tokenizer) {
    char *name = text_format("iteration-%" PRId64 "/synthetic.jsonl", t);
    char *path = path_join(out->dir, name);
    if (!path_is_file(path)) iteration_save(out, t, pairs, tokenizer, NULL);
    free(name);
    free(path);
}

// Read back what iteration t generated for the data, from beside the checkpoint that the run goes
// on from. Dies if these are not the pairs that the checkpoint was trained on, which had this hash.
static void iteration_load(PairSet *pairs, const Output *out, int64_t t, const LabelSet *data,
                           uint64_t hash) {
    char *dir, *checkpoint;
    path_split(out->resume_dir, &dir, &checkpoint);
    char *name = text_format("iteration-%" PRId64 "/synthetic.jsonl", t);
    char *path = path_join(dir, name);
    LineReader reader;
    TokenList ids = {0}, generated = {0};
    *pairs = (PairSet){.pieces = 3, .max_length = data->max_length};
    lines_open(&reader, path);
    for (cJSON *record; pairs->n < data->n && (record = record_next(&reader));) {
        const cJSON *list = record_item(&reader, record, "generated_ids"), *item;
        generated.n = 0;
        cJSON_ArrayForEach(item, list) {
            int64_t id = -1; // no token's: the hash will tell
            json_integer(item, &id);
            tokens_append(&generated, id >= 0 && id < INT_MAX ? (int)id : -1);
        }
        pair_add(pairs, &ids, data, pairs->n, generated.data, generated.n);
        cJSON_Delete(record);
    }
    if (pairs->n != data->n || pieces_hash(pairs) != hash)
        die(EXIT_BAD_INPUT,
            "%s: not what the checkpoint was trained on; resume from where it was saved, with its "
            "iteration folders beside it",
            path);
    lines_close(&reader);
    tokens_free(&ids);
    tokens_free(&generated);
    free(dir);
    free(checkpoint);
    free(name);
    free(path);
}

// ------------------------------------------------------------------------------------------------
// What a run has of them

typedef struct {
    PairSet pairs, previous;      // of this iteration; of the one before, if that is mixed in
    uint64_t hash, previous_hash; // of what was generated in them
} Played;

static void played_free(Played *p) {
    pieces_free(&p->pairs);
    pieces_free(&p->previous);
}

// Let a checkpoint remember what the files must have.
static void played_keep(Played *p, Run *run) {
    run_keep_u64(run, "played_hash", &p->hash);
    run_keep_u64(run, "previous_hash", &p->previous_hash);
}

// After run_restore: read what a half-done iteration and, if it is mixed in (`mix`), the one before
// generated. Nothing in a run that begins now.
static void played_load(Played *p, const Run *run, const LabelSet *data, bool mix) {
    const int64_t t = run->iteration;
    if (run->done > 0) iteration_load(&p->pairs, &run->output, t, data, p->hash);
    if (mix && t > 0) iteration_load(&p->previous, &run->output, t - 1, data, p->previous_hash);
}

// After run_write: they are in this run's directory, too.
static void played_copy(const Played *p, const Run *run) {
    const int64_t t = run->iteration;
    if (p->pairs.n) iteration_copy(&run->output, t, &p->pairs, &run->tokenizer);
    if (p->previous.n) iteration_copy(&run->output, t - 1, &p->previous, &run->tokenizer);
}

// The next iteration begins: what was generated in this one, n pairs, is the previous one's, or is
// forgotten if it is not to be mixed in.
static void played_next(Played *p, int n, bool mix) {
    pieces_free(&p->previous);
    p->previous_hash = p->hash;
    if (mix) {
        p->previous = p->pairs;
        p->previous.n = n; // without those of the one before it
    } else pieces_free(&p->pairs);
    p->pairs = (PairSet){0};
}

#endif
