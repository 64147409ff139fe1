// reward.h: scores of completions, from a reward model or from any program. From top to bottom:
//
//   reward models  checkpoint directories with a scalar head, read at each row's last token: one, or
//                  an ensemble whose scores become one
//   rows           a row of a batch as the line of JSON that a program reads
//   program        starting and ending it, and all that can go wrong with it
//   both           reward_score, reward_close
//
// A reward program is started once, by `sh -c`, and reads rows until its standard input ends. Each
// is a JSON object on a line of its own:
//
//     {"prompt": "The plot is", "completion": " good. I loved it.", "finish": "eos"}
//
// where finish is "eos" if the model ended the text (the end-of-text token is not part of it) and
// "length" if it was cut. Without a tokenizer a row has all its token ids instead, EOS too:
//
//     {"prompt_ids": [3, 1], "completion_ids": [4, 4, 0]}
//
// Its answer to each row is a line with one finite number on its standard output, in the order of
// the rows and flushed at once: what stays in a buffer of the program's is never seen here. In
// Python that is
//
//     import json, sys
//     for line in sys.stdin:
//         print(-len(json.loads(line)["completion"]), flush=True)
//
// and with jq it is `jq --unbuffered ".completion | -length"`. What it prints on standard error
// passes through.
#ifndef REWARD_H
#define REWARD_H

#include "../../model.h"         // defines: GPT2, gpt2_forward, value_head_forward
#include "../base/texts.h"       // defines: text_add_json
#include "../base/tokenizer.h"   // defines: Tokenizer
#include "../files/pretrained.h" // defines: model_load_reward
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ; // macOS declares it nowhere

// How the scores of an ensemble's members become one (Coste et al. 2023): their mean, or the least of
// them, which the paper calls worst-case optimisation: what one member alone likes too much counts
// for nothing.
typedef enum { ENSEMBLE_MEAN, ENSEMBLE_MIN } Ensemble;
#define ENSEMBLE_CHOICES "mean|min" // of --reward_ensemble
#define ENSEMBLE_HELP "score by several: mean, or the least (worst-case optimisation)"

typedef struct {
    char *name;  // directory, directories or command, as it was given
    char *first; // the first of the directories; NULL for a program
    bool program;
    // Reward models.
    GPT2 *models; // (n_models)
    int n_models;
    Ensemble ensemble; // of several; set after reward_open_model, as the next one
    bool append_eos;   // score a row that was cut as if it ended there
    int eos_id;
    int max_rows; // so many rows at a time
    Batch batch;  // the rows of one pass
    float *value; // (most tokens of a pass so far)
    int max_N;    // tokens that value has room for
    bool warned;  // of rows longer than the model's context
    // A program.
    pid_t pid;        // also its process group; 0: it has been ended
    int to, from;     // our ends of its standard input and output, neither blocks
    double timeout;   // seconds
    Text said, heard; // rows for it; what it said and has not been taken as an answer yet
} Reward;

// ------------------------------------------------------------------------------------------------
// Reward model

// Die unless each of the policy's tokens has the same id and bytes in dir's tokenizer, so that a
// row can be scored as it was sampled. That one may have more tokens: a [PAD], as a rule.
static void reward_check_tokens(const char *dir, int vocab_size, const Tokenizer *policy) {
    Tokenizer own;
    tokenizer_load(&own, dir);
    tokenizer_check(&own, vocab_size, dir);
    if (own.vocab_size < policy->vocab_size)
        die(EXIT_BAD_INPUT,
            "%s: the reward model's tokenizer has %d tokens, the policy's %d: they must agree", dir,
            own.vocab_size, policy->vocab_size);
    const int id = tokenizer_difference(&own, policy);
    if (id >= 0) {
        size_t n, m;
        const char *a = tokenizer_piece(&own, id, &n), *b = tokenizer_piece(policy, id, &m);
        die(EXIT_BAD_INPUT,
            "%s: token %d is \"%.*s\" for the reward model and \"%.*s\" for the policy: their "
            "tokenizers must agree",
            dir, id, (int)n, a, (int)m, b);
    }
    if (own.eos_id != policy->eos_id)
        die(EXIT_BAD_INPUT,
            "%s: the end-of-text token is %d for the reward model and %d for the policy: their "
            "tokenizers must agree",
            dir, own.eos_id, policy->eos_id);
    tokenizer_free(&own);
}

// The next directory of a list with commas between them, from *list on; free() it. A directory whose
// name has commas is no list. Dies (EXIT_USAGE) if there is nothing before or after a comma.
static char *reward_next_dir(const char **list) {
    const char *comma = path_is_dir(*list) ? NULL : strchr(*list, ',');
    const size_t n = comma ? (size_t)(comma - *list) : strlen(*list);
    if (!n) die(EXIT_USAGE, "reward models: expected DIR or DIR,DIR,.., found no name at a comma");
    char *dir = text_format("%.*s", (int)n, *list);
    *list = comma ? comma + 1 : NULL;
    return dir;
}

// Score with the reward model in the directory `dirs`, or with those in several, "A,B,C", max_rows
// rows at a time. They are forward only: no gradients, no activations kept. `policy` is the tokenizer
// of the rows, NULL if they are mere ids. Dies if a directory holds no reward model or another
// vocabulary.
static void reward_open_model(Reward *r, const char *dirs, const Tokenizer *policy, int max_rows) {
    *r = (Reward){.name = text_copy(dirs), .max_rows = max_rows};
    while (dirs) {
        char *dir = reward_next_dir(&dirs);
        r->models = mem_resize(r->models, (size_t)r->n_models + 1, sizeof *r->models);
        GPT2 *model = &r->models[r->n_models++];
        model_load_reward(model, dir);
        if (policy) reward_check_tokens(dir, model->config.vocab_size, policy);
        if (r->n_models == 1) r->first = dir;
        else free(dir);
    }
    r->eos_id = policy ? policy->eos_id : r->models[0].config.eos_token_id;
}

// The most tokens that all of the models can have: the smallest of their contexts.
static int reward_positions(const Reward *r) {
    int positions = r->models[0].config.n_positions;
    for (int k = 1; k < r->n_models; k++)
        if (r->models[k].config.n_positions < positions)
            positions = r->models[k].config.n_positions;
    return positions;
}

// score <- the scores of the first k + 1 members, given that of the first k in score and x, that of
// member k.
static float ensemble_add(Ensemble ensemble, float score, float x, int k) {
    if (k == 0) return x;
    if (ensemble == ENSEMBLE_MIN) return fminf(score, x);
    return score + (x - score) / (float)(k + 1);
}

// scores (R) <- the scalar of each row's last token; with append_eos of EOS, which comes after rows that
// do not have it. Of several models, what `ensemble` makes of theirs. Rows longer than the smallest
// context lose their beginning, as prompts do elsewhere; the first time there is a warning.
static char *reward_score_model(Reward *r, float *scores, const Batch *rows) {
    const int P = reward_positions(r);
    for (int begin = 0; begin < rows->R; begin += r->max_rows) {
        const int end = rows->R - begin < r->max_rows ? rows->R : begin + r->max_rows;
        Batch *b = &r->batch;
        batch_clear(b);
        for (int i = begin; i < end; i++) {
            const int at = rows->row_start[i], all = rows->row_start[i + 1] - at;
            const int *tokens = rows->tokens + at;
            const bool cut = r->append_eos && (!all || tokens[all - 1] != r->eos_id);
            const int room = cut ? P - 1 : P, n = all < room ? all : room;
            if (n < all && !r->warned)
                warn("%s: a row has %d tokens, the reward model %d positions: it and its like are "
                     "scored by their last %d tokens",
                     r->name, all, P, n);
            r->warned = r->warned || n < all;
            batch_add_row(b, tokens + all - n, NULL, n);
            if (cut) batch_lengthen(b, r->eos_id);
        }
        if (b->N > r->max_N) {
            free(r->value);
            r->value = mem_floats((size_t)(r->max_N = b->N));
        }
        for (int k = 0; k < r->n_models; k++) {
            gpt2_forward(&r->models[k], b);
            value_head_forward(&r->models[k], r->value);
            for (int i = begin; i < end; i++) {
                const float x = r->value[b->row_start[i - begin + 1] - 1];
                if (!isfinite(x))
                    return text_format("reward model %s: row %d of %d: the score is %g", r->name,
                                       i + 1, rows->R, (double)x);
                scores[i] = ensemble_add(r->ensemble, scores[i], x, k);
            }
        }
    }
    return NULL;
}

// ------------------------------------------------------------------------------------------------
// Rows

static void reward_print_ids(Text *out, const int *ids, int n) {
    text_append(out, "[", 1);
    for (int i = 0; i < n; i++) text_print(out, "%s%d", i ? ", " : "", ids[i]);
    text_append(out, "]", 1);
}

// Append row i of the batch as a line: the prompt is what comes before the first masked token.
static void reward_print_row(Text *out, const Batch *rows, int i, const Tokenizer *t) {
    const int begin = rows->row_start[i], end = rows->row_start[i + 1];
    int middle = begin;
    while (middle < end && !rows->mask[middle]) middle++;
    const int *prompt = rows->tokens + begin, *completion = rows->tokens + middle;
    text_print(out, t ? "{\"prompt\": " : "{\"prompt_ids\": ");
    if (t) text_add_json(out, t, prompt, (size_t)(middle - begin));
    else reward_print_ids(out, prompt, middle - begin);
    text_print(out, t ? ", \"completion\": " : ", \"completion_ids\": ");
    if (t) {
        const bool ended = end > middle && rows->tokens[end - 1] == t->eos_id;
        text_add_json(out, t, completion, (size_t)(end - middle));
        text_print(out, ", \"finish\": \"%s\"", ended ? "eos" : "length");
    } else reward_print_ids(out, completion, end - middle);
    text_append(out, "}\n", 2);
}

// ------------------------------------------------------------------------------------------------
// Program

// A longer line cannot be a number, and the program may never end it.
enum { REWARD_LONGEST_LINE = 4096 };

// Start `command`. It runs in a process group of its own: Ctrl-C stops the caller, who finishes its
// step for which it needs scores, and the end of it is the end of the whole group. The program may
// be silent for `timeout` seconds while it owes answers.
static void reward_open_command(Reward *r, const char *command, double timeout) {
    int in[2], out[2];
    *r = (Reward){.name = text_copy(command), .program = true, .timeout = timeout};
    if (pipe(in) || pipe(out)) die(EXIT_IO, "cannot make a pipe: %s", strerror(errno));
    const int ends[] = {in[0], in[1], out[0], out[1]};
    for (int i = 0; i < COUNT(ends); i++) fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    r->to = in[1], r->from = out[0];
    fcntl(r->to, F_SETFL, O_NONBLOCK), fcntl(r->from, F_SETFL, O_NONBLOCK);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attributes, 0);
    char *argv[] = {"sh", "-c", r->name, NULL};
    const int error = posix_spawn(&r->pid, "/bin/sh", &files, &attributes, argv, environ);
    if (error) die(EXIT_IO, "cannot start /bin/sh: %s", strerror(error));
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    close(in[0]), close(out[1]);
}

// How the program ended, in words, if it does so within `patience` seconds; else NULL. It is not
// reaped, so that its process group stays ours.
static char *program_ending(const Reward *r, double patience) {
    const double began = seconds_now();
    siginfo_t info;
    do {
        info = (siginfo_t){0};
        if (waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid)
            break;
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    } while (seconds_now() - began < patience);
    if (!info.si_pid) return NULL;
    const int status = info.si_status;
    if (info.si_code != CLD_EXITED)
        return text_format("was killed by signal %d (%s)", status, strsignal(status));
    if (status > 128) // the shell's way to tell of a command that was killed
        return text_format("exited with code %d (signal %d: %s)", status, status - 128,
                           strsignal(status - 128));
    return text_format("exited with code %d%s", status,
                       status == 127   ? " (command not found)"
                       : status == 126 ? " (command cannot be executed)"
                                       : "");
}

// End the program and all that it started in its group.
static void program_end(Reward *r) {
    if (!r->pid) return;
    kill(-r->pid, SIGKILL);
    while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR) continue;
    if (r->to >= 0) close(r->to);
    close(r->from);
    r->pid = 0;
}

// Append s[0..n) in quotes, at most `limit` bytes of it and nothing that is not printable ASCII.
static void text_quote(Text *t, const char *s, size_t n, size_t limit) {
    text_append(t, "\"", 1);
    for (size_t i = 0; i < n && i < limit; i++) {
        if (s[i] == '\n' || s[i] == '\r' || s[i] == '\t')
            text_print(t, "\\%c", s[i] == '\n' ? 'n' : s[i] == '\r' ? 'r' : 't');
        else if (s[i] == '"' || s[i] == '\\') text_print(t, "\\%c", s[i]);
        else if (s[i] >= ' ' && s[i] < 0x7F) text_append(t, &s[i], 1);
        else text_print(t, "\\x%02x", (unsigned char)s[i]);
    }
    text_append(t, n > limit ? "\".." : "\"", n > limit ? 3 : 1);
}

// The sentence for a fault at answer number `row` (from 0) of R: who, where, what, and the bytes of
// this line that were read. `hint` may be empty. Ends the program: it is out of step with the rows.
static char *program_fault(Reward *r, int row, int R, const char *what, const char *hint) {
    Text t = {0};
    const char *end = r->heard.size ? memchr(r->heard.data, '\n', r->heard.size) : NULL;
    const size_t n = end ? (size_t)(end - r->heard.data) : r->heard.size;
    text_print(&t, "reward program ");
    text_quote(&t, r->name, strlen(r->name), 200);
    text_print(&t, row < R ? ": row %d of %d: %s, read " : ": after row %d of %d: %s, read ",
               row < R ? row + 1 : R, R, what);
    if (n || end) text_quote(&t, r->heard.data, n, 60);
    else text_print(&t, "nothing");
    if (n && !end && n < REWARD_LONGEST_LINE) text_print(&t, " without an end of line");
    text_print(&t, "%s%s", *hint ? "; " : "", hint);
    program_end(r);
    return t.data;
}

// The number that fills line[0..n), blanks around it allowed; NaN if there is none, infinite if a
// float cannot hold it. The line ends with '\n' or NUL.
static float program_number(const char *line, size_t n, bool *is_number) {
    size_t first = 0;
    while (first < n && isspace((unsigned char)line[first])) first++;
    while (n > first && isspace((unsigned char)line[n - 1])) n--;
    char *end;
    const float x = strtof(line + first, &end);
    *is_number = n > first && end == line + n && !memchr(line + first, 'x', n - first) &&
                 !memchr(line + first, 'X', n - first);
    return x;
}

// Read what the program has to say and take whole lines as answers: scores[*row] and on, up to
// `owed` of them. R rows in all. NULL, or the sentence for what is wrong.
static char *program_read(Reward *r, float *scores, int *row, int owed, int R) {
    const char *only = "only scores belong on its standard output, one a line for each row";
    char block[4096];
    const ssize_t got = read(r->from, block, sizeof block);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return NULL;
    if (got <= 0 && *row == R) return NULL; // all is answered: only a next batch would miss it
    if (got <= 0) {
        char *ending = program_ending(r, r->timeout < 1 ? r->timeout : 1);
        char *what =
            text_format("%s before it answered", ending ? ending : "closed its standard output");
        char *fault = program_fault(r, *row, R, what, "");
        free(ending), free(what);
        return fault;
    }
    text_append(&r->heard, block, (size_t)got);
    Text *heard = &r->heard;
    while (heard->size) {
        const char *end = memchr(heard->data, '\n', heard->size);
        if (*row >= owed)
            return program_fault(
                r, *row, R, owed ? "expected no more lines" : "it answered before it was asked",
                only);
        if (!end && heard->size < REWARD_LONGEST_LINE) break;
        const size_t n = end ? (size_t)(end - heard->data) : heard->size;
        bool is_number;
        scores[*row] = program_number(heard->data, n, &is_number);
        if (!is_number) return program_fault(r, *row, R, "expected a number", only);
        if (!isfinite(scores[*row]))
            return program_fault(r, *row, R, "the score is not finite", "");
        heard->size -= n + 1;
        memmove(heard->data, end + 1, heard->size + 1); // with the NUL
        ++*row;
    }
    return NULL;
}

// How long to look for a line too many after a batch. One that comes later is found with the next
// batch, or when the program is closed.
enum { REWARD_LINGER_MS = 20 };

// Hand the rows to the program and read its answers, whichever it is ready for: it may answer each
// row at once or read them all first, and neither side ever waits for the other to empty a pipe.
static char *reward_score_program(Reward *r, float *scores, const Batch *rows, const Tokenizer *t) {
    const int R = rows->R;
    int row = 0; // answers so far
    size_t given = 0;
    bool reads = true;
    char *fault = NULL;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    if (!r->pid) return text_format("reward program %s: has been ended", r->name);
    r->said.size = 0;
    for (int i = 0; i < R; i++) reward_print_row(&r->said, rows, i, t);
    sigaction(SIGPIPE, &ignore, &before); // an ended program is told by write's error
    // What it said since the last batch was for no row.
    struct pollfd p[2] = {{r->from, POLLIN, 0}, {r->to, POLLOUT, 0}};
    if (poll(p, 1, 0) > 0) fault = program_read(r, scores, &row, 0, R);
    double active = seconds_now(); // when it last took or said something
    while (!fault && row < R) {
        const double left = r->timeout - (seconds_now() - active);
        p[1].fd = reads && given < r->said.size ? r->to : -1;
        p[0].revents = p[1].revents = 0;
        const int ready = poll(p, 2, left <= 0 ? 0 : left > 1e6 ? INT_MAX : (int)(left * 1e3) + 1);
        if (ready < 0 && errno != EINTR) die(EXIT_IO, "cannot poll: %s", strerror(errno));
        if (p[1].revents) {
            const ssize_t n = write(r->to, r->said.data + given, r->said.size - given);
            if (n > 0) given += (size_t)n, active = seconds_now();
            else if (n < 0 && errno != EAGAIN && errno != EINTR) reads = false; // see what it says
        }
        if (p[0].revents) {
            fault = program_read(r, scores, &row, R, R);
            active = seconds_now();
        } else if (ready == 0 && left <= 0) {
            char *what = text_format("no answer for %g s (--reward_timeout)", r->timeout);
            fault = program_fault(r, row, R, what,
                                  row || r->heard.size ? "" : "does it flush every line?");
            free(what);
        }
    }
    if (!fault && given < r->said.size)
        fault = program_fault(r, row, R, "answered without reading all rows", "");
    if (!fault && poll(p, 1, REWARD_LINGER_MS) > 0) fault = program_read(r, scores, &row, R, R);
    sigaction(SIGPIPE, &before, NULL);
    return fault;
}

// ------------------------------------------------------------------------------------------------
// Both

// scores (R) <- the scores of the rows: prompt with mask 0, completion with mask 1, as sample_batch
// gives them, none the child of another. t is their tokenizer, or NULL. Returns NULL if all went
// well, else a sentence to die with (EXIT_BAD_INPUT) once a checkpoint is saved; free() it.
static char *reward_score(Reward *r, float *scores, const Batch *rows, const Tokenizer *t) {
    return r->program ? reward_score_program(r, scores, rows, t)
                      : reward_score_model(r, scores, rows);
}

// Free the model, or end the program: it is given a second to leave by itself at the end of its
// input. What it says there comes too late to be a fault of a row.
static void reward_close(Reward *r) {
    if (r->pid) {
        const double began = seconds_now();
        char block[4096];
        ssize_t n = 1;
        size_t late = r->heard.size;
        close(r->to);
        r->to = -1;
        while (n != 0 && seconds_now() - began < 1) {
            poll(&(struct pollfd){r->from, POLLIN, 0}, 1, 100);
            n = read(r->from, block, sizeof block);
            if (n > 0) late += (size_t)n;
            else if (n < 0 && errno != EAGAIN && errno != EINTR) break;
        }
        if (late)
            warn("reward program %s: said %zu bytes more than the scores it was asked for: can the "
                 "scores be out of step with the rows?",
                 r->name, late);
        free(program_ending(r, n == 0 ? 1 - (seconds_now() - began) : 0));
        program_end(r);
    }
    for (int k = 0; k < r->n_models; k++) gpt2_free(&r->models[k]);
    batch_free(&r->batch);
    text_free(&r->said), text_free(&r->heard);
    free(r->models), free(r->value), free(r->name), free(r->first);
    *r = (Reward){0};
}

#endif
