// label.c: a page to talk with a GPT-2, compare, judge and correct what it says. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp label.c -o label -lmicrohttpd -lopenblas -lcjson -lm
//
// Human feedback as Christiano et al. (2017), Ziegler et al. (2019) and Bai et al. (2022) collect it:
//
//     ./label --model out/sft/final --dataset prompts.jsonl --output out/label/feedback.jsonl
//
// prints an address of this machine to open in a browser. There, in four modes:
//
//   compare   two to four completions of a prompt: the best one, a tie, or all bad
//   judge     one completion: good or bad
//   correct   one completion: make it a good one
//   talk      with the model; any answer can be judged
//
// Completions are sampled now, some prompts ahead of the page, or were made before (--completions FILE). With
// --models a=DIR,b=DIR it is a blind test of two models: which is which nobody sees, and the summary has
// the win rate. What people say is in --output and, as rows that the training programs read, beside it:
// see lib/label/feedback.h. Without arguments: the model in data/sft, on film reviews.
#include "lib/base/common.h"
#include "lib/base/disk.h"
#include "lib/base/flags.h"
#include "lib/base/json.h"
#include "lib/base/stats.h"
#include "lib/base/texts.h"
#include "lib/base/tokenizer.h"
#include "model.h"
#include "lib/files/guard.h"
#include "lib/label/feedback.h"
#include "lib/label/label_html.h"
#include "lib/label/scores.h"
#include "lib/label/summary.h"
#include "lib/label/tasks.h"
#include "lib/label/web.h"
#include "lib/run/sample.h"

static const char preset[] = "--model data/sft --dataset data/prefs_eval.jsonl "
                             "--output out/label/feedback.jsonl --max_new_tokens 50";

enum { MAX_WHO = 40, MAX_NOTE = 2000 }; // bytes
enum { MAX_TURNS = 201 };

// ------------------------------------------------------------------------------------------------
// Sampling and scores: all on the first thread, which owns the models. The web's thread changes nothing of an
// item or answer before it is ready, and the first nothing after, so each reads its own without the lock.

// Sample n completions of these tokens; each text grows while the page looks on. `reply`: a blank at the
// beginning is left out, since the form of a talk has it between a name and what it says.
static void sample_into(Label *l, const Model *m, const TokenList *ids, Text *texts,
                        const char **finish, int n, uint64_t first_row, bool reply) {
    Batch batch = {0};
    TokenStream streams[MAX_SHOWN] = {0};
    int seen[MAX_SHOWN];
    bool fresh[MAX_SHOWN]; // nothing has been written yet
    SampleOptions o = l->options;
    o.eos_id = m->tokenizer.eos_id;
    o.vocab_size = m->tokenizer.vocab_size;
    o.stop_ids = m->stops.ids;
    o.n_stops = m->stops.n;
    for (int k = 0; k < n; k++) {
        batch_add_row(&batch, ids->data, NULL, (int)ids->n);
        seen[k] = (int)ids->n;
        fresh[k] = true;
    }
    sampler_begin(&l->sampler, &m->gpt2, &o, &batch, first_row);
    for (int live = n; live && !stop_signal;) {
        live = sampler_step(&l->sampler);
        pthread_mutex_lock(&l->lock);
        for (int k = 0; k < n; k++) {
            const SampleRow *row = &l->sampler.rows[k];
            const bool ends = seen[k] < row->n && row->finish;
            for (; seen[k] < row->n; seen[k]++)
                if (seen[k] < row->n - 1 || row->finish != FINISH_EOS)
                    token_stream_add(&streams[k], &m->tokenizer, &texts[k], row->tokens[seen[k]]);
            if (ends) token_stream_end(&streams[k], &texts[k]);
            if (row->finish) finish[k] = finish_name(row->finish);
            for (char *nul; (nul = memchr(texts[k].data, 0, texts[k].size));)
                *nul = ' '; // which no string of JSON could hold
            if (reply && fresh[k] && texts[k].size && texts[k].data[0] == ' ')
                memmove(texts[k].data, texts[k].data + 1, texts[k].size--);
            fresh[k] = fresh[k] && !texts[k].size;
        }
        pthread_mutex_unlock(&l->lock);
        stop_mark();
    }
    batch_free(&batch);
}

// Sample an item's completions: all of the one model, or one of each.
static void item_sample(Label *l, int i) {
    Item *item = &l->items[i];
    const int rows = l->n_models > 1 ? 1 : l->per_prompt;
    TokenList ids = {0};
    pthread_mutex_lock(&l->lock);
    for (item->n = 0; item->n < rows * l->n_models; item->n++) {
        text_append(&item->completions[item->n], "", 0);
        item->models[item->n] = l->models[item->n / rows].name;
    }
    item->seed = (int64_t)l->options.seed;
    pthread_mutex_unlock(&l->lock);
    for (int m = 0; m < l->n_models; m++) {
        const Model *model = &l->models[m];
        ids_of(&ids, model, &item->text, item->chat);
        ids_cut(&ids, prompt_room(model->gpt2.config.n_positions, l->options.max_new_tokens));
        sample_into(l, model, &ids, item->completions + m * rows, item->finish + m * rows, rows,
                    (uint64_t)i * MAX_SHOWN + (uint64_t)m, item->chat);
    }
    tokens_free(&ids);
    pthread_mutex_lock(&l->lock);
    item->ready = !stop_signal; // else they are cut
    // of a run with other settings that sampled the same
    for (int k = 0; item->ready && k < l->feedback.n; k++) item_adopt(l, i, &l->feedback.list[k]);
    pthread_mutex_unlock(&l->lock);
}

// Answer what was said in a talk. Where turns of it are too long for the model, the oldest go, also from what
// the judgement will say was the prompt; one turn that is too long loses its beginning.
static void answer_sample(Label *l, Answer *a) {
    const Model *m = &l->models[0];
    const size_t room = prompt_room(m->gpt2.config.n_positions, l->options.max_new_tokens);
    TokenList ids = {0};
    Text text = {0};
    cJSON *turns = cJSON_Parse(a->prompt);
    const bool chat = cJSON_IsArray(turns);
    const cJSON *turn;
    text_append(&text, "", 0);
    if (!chat) text_append(&text, turns->valuestring, strlen(turns->valuestring));
    for (;;) {
        if (chat) text.size = 0;
        cJSON_ArrayForEach(turn, turns)
            chat_turn(&text, m->format, json_get(turn, "role")->valuestring,
                      json_get(turn, "content")->valuestring);
        if (chat) chat_turn(&text, m->format, "assistant", NULL);
        ids_of(&ids, m, &text, chat);
        if (ids.n <= room || cJSON_GetArraySize(turns) < 3) break;
        for (int k = 0; k < 2; k++)
            cJSON_DeleteItemFromArray(turns, 0); // what was said and answered
    }
    ids_cut(&ids, room);
    char *prompt = cJSON_PrintUnformatted(turns);
    sample_into(l, m, &ids, &a->answer, &a->finish, 1, (uint64_t)1 << 40 | (uint64_t)a->number,
                chat);
    cJSON_Delete(turns);
    text_free(&text), tokens_free(&ids);
    pthread_mutex_lock(&l->lock);
    free(a->prompt);
    a->prompt = prompt;
    a->ready = !stop_signal; // else it is cut
    pthread_mutex_unlock(&l->lock);
}

// The place that a person is to see next in a mode; -1: nothing is left. It is the first one in Label.order that
// is not done; comparing with --choose uncertain that of the smallest margin, of those that are scored by now.
static int item_next(const Label *l, int who, Mode mode) {
    int first = -1, best = -1;
    double least = INFINITY;
    for (int k = 0; k < l->n_items; k++) {
        const int i = l->order[k];
        const Item *item = &l->items[i];
        for (int c = 0; c < item_units(l, item, mode); c++) {
            if (item->done[mode][c] >> who & 1) continue;
            if (first < 0) first = place_of(i, c);
            if (!l->uncertain || mode != COMPARE) return first;
            const double margin = item->scored ? item_margin(l, item) : INFINITY;
            if (!(margin < least)) continue;
            least = margin;
            best = place_of(i, c);
        }
    }
    return best >= 0 ? best : first;
}

// The item to sample or score next, or -1: what somebody is waiting for, then the first that nobody has judged;
// of a file all are scored, for the summary.
static int work_find(const Label *l) {
    const bool scores = l->n_judges || l->has_ref;
    int fresh = 0;
    for (int p = 0; p < l->feedback.n_people; p++)
        for (int m = 0; m < MODES; m++)
            if (l->current[p][m] >= 0 && !l->items[place_item(l->current[p][m])].ready)
                return place_item(l->current[p][m]);
    if (l->from_file && !scores) return -1; // all are there
    for (int k = 0; k < l->n_items && (l->from_file || fresh < l->ahead); k++) {
        const Item *item = &l->items[l->order[k]];
        uint64_t judged_by = 0;
        for (int m = 0; m < MODES; m++)
            for (int c = 0; c < MAX_SHOWN; c++) judged_by |= item->done[m][c];
        fresh += !judged_by;
        if (!judged_by && !item->ready) return l->order[k];
        if (scores && item->ready && !item->scored) return l->order[k];
    }
    return -1;
}

// The oldest answer that is wanted, or NULL.
static Answer *answer_find(Label *l) {
    Answer *found = NULL;
    for (int k = 0; k < MAX_ANSWERS; k++) {
        Answer *a = &l->answers[k];
        if (a->number && !a->ready && (!found || a->number < found->number)) found = a;
    }
    return found;
}

// Sample and score whatever is wanted, answers of talks first, until a signal: what is half sampled then is not
// kept.
static void work(Label *l) {
    while (!stop_signal) {
        pthread_mutex_lock(&l->lock);
        Answer *answer = answer_find(l);
        const int i = answer ? -1 : work_find(l);
        if (!answer && i < 0) {
            struct timespec soon; // a signal does not wake us
            clock_gettime(CLOCK_REALTIME, &soon);
            soon.tv_nsec += 100000000;
            soon.tv_sec += soon.tv_nsec / 1000000000;
            soon.tv_nsec %= 1000000000;
            pthread_cond_timedwait(&l->wanted, &l->lock, &soon);
        }
        pthread_mutex_unlock(&l->lock);
        if (answer) answer_sample(l, answer);
        else if (i >= 0 && !l->items[i].ready) item_sample(l, i);
        else if (i >= 0) item_score(l, i);
        stop_mark();
    }
}

// ------------------------------------------------------------------------------------------------
// What the page asks: all on the web's thread, with the lock

// The person of a request, or -1 after a reply that says why not.
static int request_person(Label *l, const char *name, Reply *r) {
    const size_t n = name ? strlen(name) : 0;
    int who = -1;
    if (!n || n > MAX_WHO || utf8_check(name, n) < n || text_is_blank(name, n))
        reply_say(r, HTTP_BAD_REQUEST, "who: expected a name of at most %d bytes\n", MAX_WHO);
    else if ((who = person_find(&l->feedback, name)) < 0)
        reply_say(r, HTTP_CONFLICT, "there are %d people already\n", MAX_PEOPLE);
    return who;
}

// The order in which a person sees an item's completions: a side means nothing. It must be the same for the page
// that shows them and for the choice that comes back; after a new start it may be another, but then so is the
// key, and no old page gets in.
static void sides(const Label *l, int order[MAX_SHOWN], int i, int who) {
    rng_permutation(order, l->items[i].n, l->options.seed + 1,
                    (uint64_t)i * MAX_PEOPLE + (uint64_t)who);
}

// GET /task?who&mode: what to judge, as far as it is sampled. `last` is the number of the person's last judgement.
static void task_show(Label *l, int who, Mode mode, Reply *r) {
    int *now = &l->current[who][mode], mine;
    const int all = units_count(l, mode, who, &mine);
    if (*now < 0 || l->items[place_item(*now)].done[mode][place_completion(*now)] >> who & 1)
        *now = item_next(l, who, mode);
    text_print(
        &r->body,
        "{\"done\": %d, \"all\": %d, \"place\": %d, \"last\": %d, \"chat\": %s, \"modes\": [", mine,
        all, *now, feedback_last(&l->feedback, who) + 1, l->chat ? "true" : "false");
    for (int m = 0, n = 0; m < MODES; m++)
        if (mode_open(l, m)) text_print(&r->body, "%s\"%s\"", n++ ? ", " : "", mode_names[m]);
    text_print(&r->body, "], \"prompt\": ");
    Text shown = {0};
    text_append(&shown, "", 0);
    const Item *item = *now < 0 ? NULL : &l->items[place_item(*now)];
    if (item) chat_show(&shown, item->text.data, item->text.size);
    text_json(&r->body, shown.data, shown.size);
    text_free(&shown);
    text_print(&r->body, ", \"ready\": %s, \"texts\": [", item && item->ready ? "true" : "false");
    int order[MAX_SHOWN] = {place_completion(*now)};
    if (item && mode == COMPARE) sides(l, order, place_item(*now), who);
    for (int k = 0; item && k < (mode == COMPARE ? item->n : item->n > 0); k++) {
        const Text *text = &item->completions[order[k]];
        text_print(&r->body, k ? ", " : "");
        text_string(&r->body, text->data);
    }
    text_print(&r->body, "]}\n");
}

// POST /judge {who, mode, place or answer, choice, text, note, seconds}: on the disk before the reply. What the
// person has judged already, with the same choice, is a request that was sent again.
static void judgement_take(Label *l, int who, Mode mode, const cJSON *body, Reply *r) {
    const char *key = mode == TALK ? "answer" : "place";
    const cJSON *text = json_get(body, "text"), *note = json_get(body, "note");
    const cJSON *seconds = json_get(body, "seconds");
    int64_t at;
    if (!json_integer(json_get(body, key), &at) || at < 0)
        return reply_say(r, HTTP_BAD_REQUEST, "%s: expected a number\n", key);
    const Answer *answer = &l->answers[at % MAX_ANSWERS];
    const bool in_items = mode != TALK && at < place_of(l->n_items, 0);
    const int i = in_items ? place_item((int)at) : 0, of = in_items ? place_completion((int)at) : 0;
    const bool there =
        mode == TALK ? answer->number == at && answer->ready
                     : in_items && l->items[i].ready && of < item_units(l, &l->items[i], mode);
    if (!there)
        return reply_say(r, HTTP_CONFLICT, "%s %" PRId64 " is not there to be judged\n", key, at);
    Verdict v;
    if (mode == TALK) {
        v = (Verdict){
            .prompt = answer->prompt, .n = 1, .item = -1, .seed = (int64_t)l->options.seed};
        v.completions[0] = answer->answer.data;
        v.finish[0] = answer->finish;
        v.sampling = l->sampling;
        v.answer = at;
        v.models[0] = l->models[0].name;
    } else v = item_verdict(l, i, mode, of);
    v.mode = mode;
    v.who = who;
    v.choice = choice_parse(json_get(body, "choice"), mode == COMPARE ? v.n : 0);
    v.text = cJSON_GetStringValue(text);
    v.note = cJSON_GetStringValue(note);
    v.seconds = cJSON_IsNumber(seconds) ? fmin(fmax(seconds->valuedouble, 0), 1e6) : 0;
    if (!choice_fits(v.choice, mode))
        return reply_say(r, HTTP_BAD_REQUEST, "choice: cannot be made in the mode %s\n",
                         mode_names[mode]);
    if (v.note && strlen(v.note) > MAX_NOTE)
        return reply_say(r, HTTP_BAD_REQUEST, "note: more than %d bytes\n", MAX_NOTE);
    if (v.choice == EDIT &&
        (!v.text || text_is_blank(v.text, strlen(v.text)) || !strcmp(v.text, v.completions[v.of])))
        return reply_say(r, HTTP_BAD_REQUEST, "text: expected a text that was changed\n");
    if (v.choice >= 0) {
        int order[MAX_SHOWN];
        bool equal = false;
        sides(l, order, i, who);
        v.choice = order[v.choice];
        for (int c = 0; c < v.n; c++) // who chooses one of two that are the same chooses neither
            if (c != v.choice && !strcmp(v.completions[c], v.completions[v.choice])) equal = true;
        if (equal) v.choice = TIE;
    }
    const Judgement *before = feedback_find(&l->feedback, &v);
    if (before && (before->choice != v.choice || before->text != verdict_text(&v)))
        return reply_say(r, HTTP_CONFLICT,
                         "you have judged this already, otherwise: undo it first\n");
    if (!before) {
        const int error = feedback_add(&l->feedback, &v);
        if (error)
            return reply_say(r, HTTP_NO_ROOM, "%s: cannot write: %s; this was not taken\n",
                             l->feedback.path, strerror(error));
        before = &l->feedback.list[l->feedback.n - 1];
        pthread_cond_signal(&l->wanted);
    }
    if (before->item >= 0) item_mark(l, before, true);
    text_print(&r->body, "{\"last\": %d}\n", feedback_last(&l->feedback, who) + 1);
}

// POST /undo {who, last}: the person's last judgement is taken back, if it has this number, and what it was about is
// shown again.
static void judgement_undo(Label *l, int who, const cJSON *last, Reply *r) {
    const int i = feedback_last(&l->feedback, who);
    int64_t number;
    if (i < 0) return reply_say(r, HTTP_CONFLICT, "there is nothing to take back\n");
    if (!json_integer(last, &number) || number != i + 1)
        return reply_say(r, HTTP_CONFLICT, "this is not your last judgement\n");
    const Judgement *j = &l->feedback.list[i];
    const int error = feedback_undo(&l->feedback, i);
    if (error)
        return reply_say(r, HTTP_NO_ROOM, "%s: cannot write: %s; it was not taken back\n",
                         l->feedback.path, strerror(error));
    if (j->item >= 0) {
        item_mark(l, j, false);
        l->current[who][j->mode] = place_of(j->item, j->mode == COMPARE ? 0 : j->of);
    }
    text_print(&r->body, "{\"mode\": \"%s\", \"answer\": %" PRId64 "}\n", mode_names[j->mode],
               j->answer);
}

// POST /say {who, turns}: turns of user and assistant, the last the user's. The model's answer gets a number; of all
// people's answers the last MAX_ANSWERS are kept to be judged.
static void answer_begin(Label *l, const cJSON *turns, Reply *r) {
    const cJSON *turn;
    Text text = {0};
    int n = 0;
    bool good = cJSON_IsArray(turns);
    text_append(&text, "", 0);
    cJSON_ArrayForEach(turn, turns) {
        const char *role = cJSON_GetStringValue(json_get(turn, "role"));
        const char *content = cJSON_GetStringValue(json_get(turn, "content"));
        good = good && role && content && !strcmp(role, n % 2 ? "assistant" : "user");
        if (good) text_append(&text, content, strlen(content));
        n++;
    }
    Answer *a = &l->answers[(l->n_answers + 1) % MAX_ANSWERS];
    if (!mode_open(l, TALK)) reply_say(r, HTTP_CONFLICT, "there is no talk here\n");
    else if (!good || n % 2 == 0 || n > MAX_TURNS)
        reply_say(r, HTTP_BAD_REQUEST, "turns: expected the user's and the assistant's, in turn\n");
    else if (a->number && !a->ready)
        reply_say(r, HTTP_CONFLICT, "too many answers are wanted at once\n");
    else {
        free(a->prompt), text_free(&a->answer);
        *a = (Answer){.number = ++l->n_answers};
        text_append(&a->answer, "", 0);
        Text json = {0};
        if (!l->chat) text_json(&json, text.data, text.size);
        else cJSON_ArrayForEach(turn, turns) {
                text_print(&json, json.size ? ", " : "[");
                message_json(&json, json_get(turn, "role")->valuestring,
                             json_get(turn, "content")->valuestring);
            }
        if (l->chat) text_print(&json, "]");
        a->prompt = json.data;
        pthread_cond_signal(&l->wanted);
        text_print(&r->body, "{\"answer\": %" PRId64 "}\n", a->number);
    }
    text_free(&text);
}

// GET /said?answer: an answer, as far as it is sampled.
static void answer_show(const Label *l, const char *number, Reply *r) {
    const int64_t n = number ? strtoll(number, NULL, 10) : 0;
    const Answer *a = n > 0 ? &l->answers[n % MAX_ANSWERS] : NULL;
    if (!a || a->number != n) return reply_say(r, HTTP_NOT_FOUND, "there is no such answer\n");
    text_print(&r->body, "{\"ready\": %s, \"text\": ", a->ready ? "true" : "false");
    text_json(&r->body, a->answer.data, a->answer.size);
    text_print(&r->body, "}\n");
}

// GET /summary
static void summary_show(const Label *l, Reply *r) {
    text_print(&r->body, "{");
    people_show(l, &r->body);
    models_show(l, &r->body);
    days_show(l, &r->body);
    text_print(&r->body, ", \"files\": [");
    text_string(&r->body, l->feedback.path);
    for (int k = 0; k < ROW_FILES; k++) {
        text_print(&r->body, ", ");
        text_string(&r->body, l->feedback.row_paths[k]);
    }
    text_print(&r->body, "]}\n");
}

// GET /: the page, with the nonce that its content security policy lets script and style run by.
static void page_show(Reply *r) {
    static char nonce[KEY_DIGITS + 1];
    random_digits(nonce);
    for (int i = 0; i < COUNT(label_html); i++) {
        const char *line = label_html[i], *mark = strstr(line, "NONCE");
        if (mark) text_print(&r->body, "%.*s%s%s\n", (int)(mark - line), line, nonce, mark + 5);
        else text_print(&r->body, "%s\n", line);
    }
    r->type = "text/html; charset=utf-8";
    r->nonce = nonce;
}

// Serve a request that web.h has let in: its key, host, origin and size are right.
static void serve(void *program, const Request *q, Reply *r) {
    Label *l = program;
    const bool is_task = !strcmp(q->path, "/task"), is_judge = !strcmp(q->path, "/judge");
    const bool is_undo = !strcmp(q->path, "/undo"), is_say = !strcmp(q->path, "/say");
    if (q->post != (is_judge || is_undo || is_say))
        return reply_say(r, HTTP_NOT_FOUND, "there is nothing at %s\n", q->path);
    cJSON *body = q->post ? body_parse(q->body, q->n) : NULL;
    if (q->post && !body)
        return reply_say(r, HTTP_BAD_REQUEST, "expected a JSON object in UTF-8\n");
    const char *name =
        q->post ? cJSON_GetStringValue(json_get(body, "who")) : request_value(q, "who");
    const char *mode_name =
        q->post ? cJSON_GetStringValue(json_get(body, "mode")) : request_value(q, "mode");
    Mode mode = mode_parse(mode_name);
    if (is_task && mode_name && !strcmp(mode_name, "any")) mode = modes_first(l);
    pthread_mutex_lock(&l->lock);
    const int who = is_task || q->post ? request_person(l, name, r) : 0;
    if (who < 0)
        ; // request_person has replied
    else if ((is_task || is_judge) && (mode == MODES || !mode_open(l, mode)))
        reply_say(r, HTTP_BAD_REQUEST, "mode: expected one that is open here\n");
    else if (is_task) task_show(l, who, mode, r), pthread_cond_signal(&l->wanted);
    else if (is_judge) judgement_take(l, who, mode, body, r);
    else if (is_undo) judgement_undo(l, who, json_get(body, "last"), r);
    else if (is_say) answer_begin(l, json_get(body, "turns"), r);
    else if (!strcmp(q->path, "/said")) answer_show(l, request_value(q, "answer"), r);
    else if (!strcmp(q->path, "/summary")) summary_show(l, r);
    else if (!strcmp(q->path, "/")) page_show(r);
    else reply_say(r, HTTP_NOT_FOUND, "there is nothing at %s\n", q->path);
    pthread_mutex_unlock(&l->lock);
    cJSON_Delete(body);
}

// ------------------------------------------------------------------------------------------------

int main(int argc, char **argv) {
    struct {
        const char *model, *models, *dataset, *completions, *output, *chat_format, *choose;
        const char *reward_model, *ref_model, *host;
        double temperature, top_p;
        int num_completions, top_k, max_new_tokens, pool, port;
        int64_t max_samples, seed;
        bool bf16, open;
    } args = {
        .chat_format = "none",
        .choose = "random",
        .host = "127.0.0.1",
        .temperature = 1,
        .top_p = 1,
        .num_completions = 2,
        .max_new_tokens = 100,
        .pool = 32,
        .port = 8617,
        .seed = 42,
    };
    Flag flags[] = {
        FLAG_HEADING("what is judged"),
        FLAG_TEXT(args, model, "directory in Hugging Face format"),
        FLAG_TEXT(args, models, "instead: a blind test of two to four: a=DIR,b=DIR"),
        FLAG_TEXT(args, dataset, "JSONL with a column prompt: text or messages"),
        FLAG_TEXT(args, completions, "instead: JSONL with prompt and completion, made before"),
        FLAG(args, max_samples, 0, 1e9, "take no more prompts than this (0: all)"),
        FLAG(args, num_completions, 1, MAX_SHOWN, "completions of each prompt to compare"),
        FLAG_CHOICE(args, chat_format, "none|" CHAT_CHOICES,
                    "how a talk becomes text (none: the model continues it)"),
        FLAG_HEADING("sampling"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "tokens to sample for each prompt at most"),
        FLAG(args, temperature, 0, 100, "divides the logits (0: always the most probable token)"),
        FLAG(args, top_k, 0, 1 << 30, "draw from so many most probable tokens (0: all)"),
        FLAG(args, top_p, 0, 1, "draw from the fewest that have this share (1: all)"),
        FLAG(args, seed, 0, 9e15, "of the sampling and of the order"),
        FLAG_SWITCH(args, bf16, "products in bfloat16"),
        FLAG_HEADING("order"),
        FLAG_CHOICE(args, choose, "random|uncertain",
                    "pairs in any order, or first those with the smallest margin by their scores"),
        FLAG_TEXT(args, reward_model, "what scores: a reward model's directory, or several: A,B,C"),
        FLAG_TEXT(args, ref_model, "or log-ratios to this reference; also for the KL of a log"),
        FLAG(args, pool, 1, 1 << 20, "choose among so many prompts that are sampled ahead"),
        FLAG_HEADING("page and output"),
        FLAG_TEXT(args, output, "JSONL of judgements, gone on with if it is there"),
        FLAG_TEXT(args, host, "address to serve at (0.0.0.0: all, for others in the network)"),
        FLAG(args, port, 0, 65535, "port (0: any that is free)"),
        FLAG_SWITCH(args, open, "open the page in a browser"),
    };
    const char *config =
        flags_parse(argc, argv, flags, COUNT(flags), "judge a GPT-2's texts", preset);
    if (!args.output) die(EXIT_USAGE, "--output is needed; see --help");
    if (!args.dataset == !args.completions)
        die(EXIT_USAGE, "expected one of --dataset or --completions");
    if (args.model && args.models) die(EXIT_USAGE, "expected one of --model or --models");
    if (args.completions && args.models)
        die(EXIT_USAGE, "--models: samples by itself, not with --completions");
    if (args.dataset && !args.model && !args.models)
        die(EXIT_USAGE, "--dataset needs --model or --models");
    if ((args.reward_model || args.ref_model) && !args.model)
        die(EXIT_USAGE, "--%s needs --model", args.reward_model ? "reward_model" : "ref_model");
    if (!strcmp(args.choose, "uncertain") && !args.reward_model && !args.ref_model)
        die(EXIT_USAGE, "--choose uncertain needs --reward_model or --ref_model");
    if (args.models && flag_given(flags, COUNT(flags), "num_completions"))
        die(EXIT_USAGE, "--num_completions: with --models each samples one");
    if (strcmp(args.choose, "uncertain") && flag_given(flags, COUNT(flags), "pool"))
        die(EXIT_USAGE, "--pool is not used without --choose uncertain");
    guard_output(args.output, config, flags, COUNT(flags), "output");
    for (int k = 0; k < ROW_FILES; k++) {
        char *rows = rows_path(args.output, k);
        guard_output(rows, config, flags, COUNT(flags), "output");
        free(rows);
    }

    static Label l;
    l.options = (SampleOptions){.temperature = args.temperature,
                                .top_k = args.top_k,
                                .top_p = args.top_p,
                                .seed = (uint64_t)args.seed,
                                .max_new_tokens = args.max_new_tokens};
    l.per_prompt = args.num_completions;
    l.from_file = args.completions;
    l.uncertain = !strcmp(args.choose, "uncertain");
    l.chat = strcmp(args.chat_format, "none") != 0;
    l.ahead = l.uncertain ? args.pool : 3;
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.wanted, NULL);
    products_begin(args.bf16);
    models_load(&l, args.model, args.models, l.chat ? args.chat_format : "auto");
    sampling_hash(&l);
    judges_load(&l, args.reward_model, args.ref_model);
    items_load(&l, args.completions ? args.completions : args.dataset, args.max_samples);
    disk_make_parent(args.output);
    feedback_open(&l.feedback, args.output);
    items_recall(&l);
    l.n_answers =
        l.feedback.n; // numbers decide what is drawn: a second run is not to repeat the first
    printf("%s: %d judgements\n", args.output, l.feedback.n);
    stop_on_signals();
    web_begin(&l.web, args.host, args.port, serve, &l);
    web_tell(&l.web, args.open ? args.output : NULL);
    work(&l);
    web_end(&l.web);
    feedback_close(&l.feedback);
    label_free(&l);
    flags_free(flags, COUNT(flags));
    return stdout_end();
}
