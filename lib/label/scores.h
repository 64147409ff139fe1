// scores.h: what reward models and a reference say of an item's completions, and how sure they are which of
// two is better. Where they disagree a person's word tells the most, it is hoped (Christiano et al. 2017, section
// 2.2.4, ask about pairs on which an ensemble disagrees); docs/loop.md has the experiment.
#ifndef SCORES_H
#define SCORES_H

#include "../run/kl.h" // defines: kl_forward
#include "tasks.h"

// ids <- the tokens of a text for a model; of an empty one EOS, which is how a text begins from nothing.
static void ids_of(TokenList *ids, const Model *m, const Text *text, bool chat) {
    ids->n = 0;
    if (!chat) tokenizer_begin(&m->tokenizer, ids);
    chat_encode(&m->tokenizer, ids, text->data, text->size);
    if (!ids->n) tokens_append(ids, m->tokenizer.eos_id);
}

// Cut off the beginning of what is longer than `room` tokens.
static void ids_cut(TokenList *ids, size_t room) {
    if (ids->n <= room) return;
    memmove(ids->data, ids->data + ids->n - room, room * sizeof *ids->data);
    ids->n = room;
}

// Score an item's completions with the reward models, and measure them against the reference.
static void item_score(Label *l, int i) {
    Item *item = &l->items[i];
    Model *m = &l->models[0];
    const int P = m->gpt2.config.n_positions;
    TokenList ids = {0};
    Batch rows = {0};
    Text reply = {0};
    for (int c = 0; c < item->n; c++) {
        const Text *text = &item->completions[c];
        ids_of(&ids, m, &item->text, item->chat);
        ids_cut(&ids, prompt_room(P, l->options.max_new_tokens));
        const size_t prompt = ids.n;
        if (item->chat) {
            reply.size = 0;
            chat_reply(&reply, m->format, text->data);
            chat_encode(&m->tokenizer, &ids, reply.data, reply.size);
        } else tokenizer_encode(&m->tokenizer, &ids, text->data, strlen(text->data), false);
        batch_add_row(&rows, ids.data, NULL, ids.n < (size_t)P ? (int)ids.n : P);
        memset(rows.mask + rows.row_start[c], 0, prompt);
    }
    for (int k = 0; k < l->n_judges; k++) {
        float scores[MAX_SHOWN];
        char *why = reward_score(&l->judges[k], scores, &rows, &m->tokenizer);
        if (why) die(EXIT_BAD_INPUT, "%s", why);
        for (int c = 0; c < item->n; c++) item->score[c][k] = (double)scores[c];
    }
    if (l->has_ref) {
        float *kl = mem_floats(3 * (size_t)rows.N), *logp = kl + rows.N, *ref = logp + rows.N;
        gpt2_forward(&m->gpt2, &rows);
        gpt2_forward(&l->ref, &rows);
        kl_forward(kl, logp, ref, &m->gpt2, &l->ref);
        for (int c = 0; c < item->n; c++)
            for (int t = rows.row_start[c]; t < rows.row_start[c + 1]; t++) {
                item->kl[c] += (double)kl[t];
                item->ratio[c] += (double)(logp[t] - ref[t]);
            }
        free(kl);
    }
    batch_free(&rows), tokens_free(&ids), text_free(&reply);
    pthread_mutex_lock(&l->lock);
    item->scored = true;
    pthread_mutex_unlock(&l->lock);
}

// How sure the judges are which of the first two completions is better: the mean difference of their
// scores over its spread among them; of one judge, or of the policy's own log-ratios (the implicit
// reward of DPO), its size.
static double item_margin(const Label *l, const Item *item) {
    double d[MAX_JUDGES];
    if (!l->n_judges) return fabs(item->ratio[0] - item->ratio[1]);
    for (int k = 0; k < l->n_judges; k++) d[k] = item->score[0][k] - item->score[1][k];
    const Mean m = mean_of(d, l->n_judges);
    return l->n_judges > 1 ? fabs(m.mean) / (m.error + 1e-9) : fabs(m.mean);
}

#endif
