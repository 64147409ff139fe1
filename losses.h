// losses.h: every objective as a function of numbers that a model gives, log-probabilities, scores
// or values, with its gradient. Nothing here knows models, tokens or files.
//
// Outputs come first, then inputs, then sizes and constants. float at the border, double inside,
// and means are taken inside, so a gradient is final as it comes out.
#ifndef LOSSES_H
#define LOSSES_H

#include <stdbool.h>
#include <stddef.h>

// ------------------------------------------------------------------------------------------------
// Supervised fine-tuning: the mean negative log-likelihood of the tokens to be learned
// (Radford et al. 2018, eq. 1, over the completion only when the mask says so).
//
//     loss = -1/M sum over masked t of log p(token t | tokens before t)      d loss / d logp[t] =
//     -1/M
//
// M is the number of masked tokens of the whole batch, all its accumulation steps taken together:
// every token weighs the same, however the batch is split and however long its rows are. (TRL's
// SFTTrainer divides by the same number; taking the mean in each split first would favour tokens
// that share their split with few others.)

// dlogp (N): the gradient. It does not depend on logp, so it is there before the forward pass.
static void sft_loss_backward(float *dlogp, const unsigned char *mask, int N, long M) {
    for (int t = 0; t < N; t++) dlogp[t] = mask[t] ? (float)(-1.0 / (double)M) : 0.0f;
}

// This split's part of the loss: the parts of all splits add up to the mean. logp, mask (N).
static double sft_loss_forward(const float *logp, const unsigned char *mask, int N, long M) {
    double sum = 0;
    for (int t = 0; t < N; t++)
        if (mask[t]) sum -= logp[t];
    return sum / (double)M;
}

#endif
