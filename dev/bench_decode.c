// bench_decode.c: how fast sample.h decodes with GPT-2 small, against what the machine allows.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/bench_decode.c -o bench_decode -lopenblas -lcjson -lm
//
// A token of B rows with T tokens of context must read all weights but wpe once and multiply each
// row with them, and read the rows' caches:
//
//   floor = max(weight bytes / DRAM, flops / peak) + cache bytes / DRAM
//
// Float and --bf16 take turns token by token, since a shared machine is never twice the same. A
// weight is 4 bytes, or 2 in bfloat16; the cache is float in both. The peak is that of float FMA; for
// bfloat16 twice that with AVX512-BF16, and with AMX so much that memory alone sets the floor. Both
// limits are measured between the tokens. Weights are random: no file is needed.
#include "../lib/base/flags.h"
#include "../lib/run/sample.h"
#include "limits.h"

int main(int argc, char **argv) {
    struct {
        int context, steps;
    } args = {256, 20};
    Flag flags[] = {
        FLAG(args, context, 16, 1000, "tokens that each row has when the clock starts"),
        FLAG(args, steps, 1, 1000, "tokens to time for each row; the best counts"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "decoding speed against the machine's limits",
                NULL);
    products_begin(false);
    GPT2Config config = {.vocab_size = 50257,
                         .n_positions = 1024,
                         .n_embd = 768,
                         .n_layer = 12,
                         .n_head = 12,
                         .n_inner = 3072,
                         .layer_norm_epsilon = 1e-5f,
                         .initializer_range = 0.02f,
                         .bos_token_id = -1,
                         .eos_token_id = -1,
                         .pad_token_id = -1};
    GPT2 model;
    gpt2_create(&model, config);
    gpt2_init_random(&model, 1);
    const size_t n_read = model.n_floats / 1024 * 1024; // 498 MB: the weights themselves
    const int sizes[] = {1, 2, 4, 8, 16, 32};
    double best[COUNT(sizes)][2], fma = 0, dram = 0;
    Sampler samplers[2] = {0}; // float, bfloat16
    Batch prompts = {0};
    int *tokens = mem_alloc((size_t)args.context, sizeof *tokens);
    for (int t = 0; t < args.context; t++) tokens[t] = t * 31 % config.vocab_size;
    for (int b = 0; b < COUNT(sizes); b++) {
        SampleOptions options = {
            .temperature = 1, .top_p = 1, .max_new_tokens = args.steps + 1, .eos_id = -1};
        batch_clear(&prompts);
        for (int r = 0; r < sizes[b]; r++) batch_add_row(&prompts, tokens, NULL, args.context);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            Sampler *s = &samplers[bf16];
            use_bf16 = bf16;
            best[b][bf16] = INFINITY;
            sampler_begin(s, &model, &options, &prompts, 0);
            // The time does not depend on what the cache holds: pretend that the prompts are done.
            for (int r = 0; r < sizes[b]; r++) s->rows[r].n_cached = args.context - 1;
            sampler_step(s);
        }
        for (int i = 0; i < args.steps; i++) {
            for (int bf16 = 0; bf16 < 2; bf16++) {
                double began = seconds_now();
                sampler_step(&samplers[bf16]);
                best[b][bf16] = fmin(best[b][bf16], seconds_now() - began);
            }
            fma = fmax(fma, fma_peak());
            dram = fmax(dram, dram_read(model.params, n_read));
        }
    }
    printf("%d threads: %.0f GF/s FMA, %.1f GB/s DRAM read; bfloat16: %s\n\n",
           omp_get_max_threads(), fma * 1e-9, dram * 1e-9, bf16_road_name());
    printf("                      float                        bfloat16\n");
    printf("rows   ms/token  tokens/s   floor ms  share   ms/token  tokens/s   floor ms  share   "
           "times as fast\n");
    const double C = config.n_embd, I_ = config.n_inner, L = config.n_layer;
    const double used = L * (4 * C * C + 2 * C * I_) + (double)config.vocab_size * C;
    const double gain = bf16_road == BF16_AMX ? INFINITY : bf16_road == BF16_AVX512 ? 2 : 1;
    for (int b = 0; b < COUNT(sizes); b++) {
        printf("%4d", sizes[b]);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            const double rows = sizes[b], cache = rows * args.context * 2 * C * L * 4;
            const double floor =
                fmax(used * (bf16 ? 2 : 4) / dram, 2 * used * rows / fma / (bf16 ? gain : 1)) +
                cache / dram;
            printf("   %8.2f  %8.1f   %8.2f   %3.0f%%", best[b][bf16] * 1e3, rows / best[b][bf16],
                   floor * 1e3, 100 * floor / best[b][bf16]);
        }
        printf("   %13.2f\n", best[b][0] / best[b][1]);
    }
    sampler_free(&samplers[0]);
    sampler_free(&samplers[1]);
    batch_free(&prompts);
    free(tokens);
    gpt2_free(&model);
    return 0;
}
