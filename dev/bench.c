// bench.c: how fast a training step is, against what this machine can do at most. `make bench`.
//
// cc -O3 -march=native -fno-math-errno -fopenmp -DPROFILE dev/bench.c -o bench -lopenblas -lcjson
// -lm
//
//     ./bench gemm              products at the shapes of GPT-2 small, in float and in bfloat16
//     ./bench train B T [tiny] [bf16]   one training step of B rows of T tokens, best of several
//     ./bench tokenize DIR FILE encoding a text file with the vocabulary in DIR, one thread
//
// The floor of a step is 6 P flop a token (P weights: 2 P forward, 4 P backward) plus causal
// attention (6 C T L flop a token: half of the T x T square, forward and backward) at the FMA peak,
// plus AdamW's traffic (p, g, m, v read; p, m, v written) at the speed of reading memory. Both
// limits are measured before and after the steps, and the better figure counts; both are of float, so
// that bfloat16, which the CPU multiplies twice as fast, can be beyond 100 %. Weights and tokens
// are random; the time of a step depends on neither.
#include "../lib/base/common.h"
#include "../lib/base/tokenizer.h"
#include "../model.h"
#include "limits.h"

static void bench_gemm(void) {
    const int shapes[][3] = {{256, 768, 768},   {256, 3072, 768},  {256, 768, 3072},
                             {256, 50257, 768}, {1024, 2304, 768}, {1024, 3072, 768},
                             {1024, 768, 3072}, {2048, 128, 128},  {2048, 512, 128}};
    double peak = fma_peak();
    for (int i = 0; i < COUNT(shapes); i++) {
        const int M = shapes[i][0], N = shapes[i][1], K = shapes[i][2];
        float *a = mem_floats((size_t)M * K), *b = mem_floats((size_t)K * N);
        float *c = mem_floats((size_t)M * N);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            double best = 1e9;
            use_bf16 = bf16;
            for (int k = 0; k < 8; k++) {
                double began = seconds_now();
                matmul_forward(c, a, b, NULL, NULL, M, K, N);
                if (seconds_now() - began < best) best = seconds_now() - began;
            }
            double rate = 2.0 * M * N * K / best, now = fma_peak();
            peak = now > peak ? now : peak;
            printf("%s %4d x %5d x %4d  %6.1f GFLOP/s  %3.0f%% of FMA peak\n",
                   bf16 ? "bf16 " : "sgemm", M, N, K, rate * 1e-9, 100 * rate / peak);
        }
        free(a), free(b), free(c);
    }
}

static void bench_train(int B, int T, bool tiny) {
    const GPT2Config small = {.vocab_size = 50257,
                              .n_positions = 1024,
                              .n_embd = 768,
                              .n_layer = 12,
                              .n_head = 12,
                              .n_inner = 3072,
                              .layer_norm_epsilon = 1e-5f,
                              .initializer_range = 0.02f};
    const GPT2Config least = {.vocab_size = 1558,
                              .n_positions = 64,
                              .n_embd = 128,
                              .n_layer = 3,
                              .n_head = 4,
                              .n_inner = 512,
                              .layer_norm_epsilon = 1e-5f,
                              .initializer_range = 0.02f};
    const char *const names[PARTS] = {"linear fwd",    "linear bwd", "head", "attention fwd",
                                      "attention bwd", "LayerNorm",  "GELU", "embedding"};
    GPT2 model;
    Batch batch = {0};
    Rng rng = rng_make(1, RNG_DATA);
    gpt2_create(&model, tiny ? least : small);
    gpt2_init_random(&model, 1);
    gpt2_train_begin(&model, false);
    int *row = mem_alloc((size_t)T, sizeof *row);
    for (int r = 0; r < B; r++) {
        for (int t = 0; t < T; t++)
            row[t] = (int)rng_below(&rng, (uint64_t)model.config.vocab_size);
        batch_add_row(&batch, row, NULL, T);
    }
    float *logp = mem_floats((size_t)batch.N), *dlogp = mem_floats((size_t)batch.N);
    const float share = -1.0f / (float)batch_count_mask(&batch);
    for (int t = 0; t < batch.N; t++) dlogp[t] = batch.mask[t] ? share : 0.0f;
    const AdamW adamw = {0.9, 0.999, 1e-8, 0.01, true, false};
    const double P = (double)gpt2_count_params(&model);
    double flops = fma_peak(), bytes = dram_read(model.params, model.n_floats / 256 * 256);
    double best = 1e9, best_adam = 0, parts[PARTS] = {0}, all[64];
    int steps = tiny ? 40 : T * B > 1024 ? 4 : 6;
    for (int s = 0; s < steps; s++) {
        memset(profile_seconds, 0, sizeof profile_seconds);
        double began = seconds_now(), adam;
        gpt2_forward(&model, &batch);
        lm_head_forward_backward(&model, logp, dlogp);
        gpt2_backward(&model);
        adam = seconds_now();
        adamw_step(&model, &adamw, 1e-4, clip_scale(grad_norm(&model), 1.0));
        all[s] = seconds_now() - began;
        if (s > 0 && all[s] < best) { // the first step also pays for fresh memory
            best = all[s], best_adam = seconds_now() - adam;
            memcpy(parts, profile_seconds, sizeof parts);
        }
        double now = s % 4 == 3 ? fma_peak() : 0;
        flops = now > flops ? now : flops;
        now = s % 4 == 3 ? dram_read(model.params, model.n_floats / 256 * 256) : 0;
        bytes = now > bytes ? now : bytes;
    }
    const double N = batch.N, C = model.config.n_embd, L = model.config.n_layer;
    const double compute = (6 * P + 6 * C * T * L) * N / flops, traffic = 28 * P / bytes;
    printf(
        "train B%d T%d%s%s: %.1f ms, %.0f tokens/s, %.0f GFLOP/s = %.0f%% of FMA peak; floor %.1f "
        "ms (%.1f compute + %.1f AdamW): %.1f%% of the floor; peak memory %.0f MB\n",
        B, T, tiny ? " tiny" : "", use_bf16 ? " bf16" : "", 1e3 * best, N / best,
        1e-9 * compute * flops / best, 100 * compute / best, 1e3 * (compute + traffic),
        1e3 * compute, 1e3 * traffic, 100 * (compute + traffic) / best, memory_peak_mb());
    printf("  FMA %.1f GFLOP/s, memory %.1f GB/s; ms:", flops * 1e-9, bytes * 1e-9);
    for (int p = 0; p < PARTS; p++) printf(" %s %.1f,", names[p], 1e3 * parts[p]);
    printf(" clip and AdamW %.1f; all steps", 1e3 * best_adam);
    for (int s = 0; s < steps; s++) printf(" %.0f", 1e3 * all[s]);
    printf("\n");
}

static void bench_tokenize(const char *dir, const char *path) {
    Tokenizer tokenizer;
    TokenList ids = {0};
    size_t n;
    double began = seconds_now();
    tokenizer_load(&tokenizer, dir);
    double loaded = seconds_now();
    char *text = file_read(path, &n);
    for (int pass = 1; pass <= 3; pass++) { // the first pass finds the caches cold
        double start = seconds_now();
        ids.n = 0;
        tokenizer_encode(&tokenizer, &ids, text, n, true);
        printf("tokenize %s, pass %d: %.1f MB/s, %zu tokens (loading took %.3f s)\n", path, pass,
               1e-6 * (double)n / (seconds_now() - start), ids.n, loaded - began);
    }
    free(text), tokens_free(&ids), tokenizer_free(&tokenizer);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const bool bf16 = argc > 4 && !strcmp(argv[argc - 1], "bf16");
    products_begin(bf16);
    if (argc == 2 && !strcmp(argv[1], "gemm")) bench_gemm();
    else if (argc >= 4 && !strcmp(argv[1], "train"))
        bench_train(atoi(argv[2]), atoi(argv[3]), argc > 4 && !strcmp(argv[4], "tiny"));
    else if (argc == 4 && !strcmp(argv[1], "tokenize")) bench_tokenize(argv[2], argv[3]);
    else die(EXIT_USAGE, "usage: bench gemm | train B T [tiny] [bf16] | tokenize DIR FILE");
    return 0;
}
