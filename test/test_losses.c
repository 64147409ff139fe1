// Tests of losses.h: values by hand, gradients against central differences.
#include "test.h"
#include "../losses.h"

static void test_sft(void) {
    const unsigned char mask[6] = {0, 1, 1, 0, 0, 1};
    float logp[6] = {9, -1, -2, 9, 9, -0.5f}, dlogp[6];
    CHECK_NEAR(sft_loss_forward(logp, mask, 6, 3), 3.5 / 3, 1e-7, 0, "mean over three tokens");
    sft_loss_backward(dlogp, mask, 6, 3);
    for (int t = 0; t < 6; t++) {
        const float saved = logp[t], h = 0.125f; // exact in binary; the loss is linear
        logp[t] = saved + h;
        double up = sft_loss_forward(logp, mask, 6, 3);
        logp[t] = saved - h;
        double down = sft_loss_forward(logp, mask, 6, 3);
        logp[t] = saved;
        CHECK_NEAR(dlogp[t], (up - down) / (2 * h), 1e-6, 0, "gradient of token %d", t);
    }
    // Splitting a batch changes neither value nor gradient.
    double parts = sft_loss_forward(logp, mask, 2, 3) + sft_loss_forward(logp + 2, mask + 2, 4, 3);
    CHECK_NEAR(parts, sft_loss_forward(logp, mask, 6, 3), 1e-12, 0, "two splits");
    float split[6];
    sft_loss_backward(split, mask, 2, 3), sft_loss_backward(split + 2, mask + 2, 4, 3);
    CHECK(!memcmp(split, dlogp, sizeof split), "gradients of two splits");
    // Extreme values stay finite: a sum of 10^6 nats.
    const unsigned char one[1] = {1};
    const float far[1] = {-1e6f};
    CHECK_NEAR(sft_loss_forward(far, one, 1, 1), 1e6, 0, 0, "a hopeless token");
}

int main(void) {
    test_sft();
    return test_end("losses");
}
