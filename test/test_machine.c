// Tests of machine.h: subnormals on every thread, classes of kernels, and, as `test_machine product`,
// what test_kernels.sh runs under one kernel of OpenBLAS after the other.
#include "../model.h"
#include "test.h"

// The bits of x / 2: where small numbers are taken for 0, `== 0` holds for them too. (Not inlined: the
// compiler would divide, and in a parallel region GCC forgets that a variable is volatile.)
static __attribute__((noinline)) uint32_t half_of(float x) {
    volatile float half = x * 0.5f;
    uint32_t bits;
    const float y = half;
    memcpy(&bits, &y, 4);
    return bits;
}

static void test_subnormals(void) {
    volatile float least = FLT_MIN;
    CHECK(half_of(least) == 0x00400000, "there are subnormal numbers to begin with");
    flush_subnormals();
    int flushed = 0, kept = 0;
#pragma omp parallel reduction(+ : flushed, kept)
    {
        flushed += half_of(least) == 0;
        kept += half_of(4 * least) == 0x01000000; // the others: 2 FLT_MIN
    }
#if defined(__SSE__) || defined(__aarch64__)
    CHECK(flushed == omp_get_max_threads(), "%d of %d threads flush", flushed,
          omp_get_max_threads());
#else
    test_skip("this CPU has no switch for subnormals");
#endif
    CHECK(kept == omp_get_max_threads(), "normal numbers stay");
}

// A saturated unit is exactly closed, without flushing: no subnormal comes out of it.
static void test_gelu(void) {
    for (float x = -60; x < 60; x += 0.01f) {
        float out, slope = 1;
        gelu_forward(&out, &x, 1);
        CHECK(out == 0 || fabsf(out) >= FLT_MIN, "gelu(%g) = %g", x, out);
        gelu_backward(&slope, &out, &x, 1);
        CHECK(slope == 0 || fabsf(slope) >= FLT_MIN, "slope of gelu at %g is %g", x, slope);
        const double u = 0.7978845608028654 * (x + 0.044715 * x * x * (double)x);
        // u is rounded three times, at 6e-8 of up to 23, before it goes into e^2u
        CHECK_NEAR(out, x / (1 + exp(-2 * u)), 1e-5, 1e-19, "gelu(%g)", x);
    }
    CHECK(isnan(gelu_sigmoid(NAN)), "NaN stays NaN");
}

static void test_classes(void) {
    CHECK(kernel_class("Prescott") == KERNEL_SSE, "Prescott");
    CHECK(kernel_class("PRESCOTT") == KERNEL_SSE, "some builds write names in capitals");
    CHECK(kernel_class("Sandybridge") == KERNEL_AVX, "Sandybridge");
    CHECK(kernel_class("Zen") == KERNEL_AVX2, "Zen");
    CHECK(kernel_class("SkylakeX") == KERNEL_AVX512, "SkylakeX");
    CHECK(kernel_class("of a later year") == KERNEL_AVX512, "what we do not know is new");
}

// The norm against a sum in long double, on numbers of very different size.
static void test_norm(void) {
    GPT2 model = {.n_floats = 3 * 65536 + 4096 + 16};
    Rng rng = rng_make(1, RNG_DATA);
    long double sum = 0;
    model.grads = mem_floats(model.n_floats);
    for (size_t i = 0; i < model.n_floats; i++) {
        model.grads[i] = (float)(rng_normal(&rng) * pow(10, -6 * rng_uniform(&rng)));
        sum += (long double)model.grads[i] * model.grads[i];
    }
    CHECK_NEAR(grad_norm(&model), (double)sqrtl(sum), 1e-14, 0, "norm");
    free(model.grads);
}

// Say which kernel runs, now that we have chosen, and whether it multiplies.
static int try_product(void) {
    enum { M = 131, N = 77, K = 519 };
    Rng rng = rng_make(1, RNG_DATA);
    float *a = mem_floats(M * K), *b = mem_floats(K * N), *out = mem_floats(M * N);
    for (int i = 0; i < M * K; i++) a[i] = (float)rng_normal(&rng);
    for (int i = 0; i < K * N; i++) b[i] = (float)rng_normal(&rng);
    products_begin(false);
    product(out, N, a, K, false, b, N, false, M, N, K, 1, NULL, 0);
    double worst = 0;
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            double sum = 0;
            for (int k = 0; k < K; k++) sum += (double)a[m * K + k] * b[k * N + n];
            const double off_by = fabs(out[m * N + n] - sum);
            if (off_by > worst) worst = off_by; // not fmax: GCC 12 for Arm dies of it at -O3
        }
    free(a), free(b), free(out);
    printf("error %g\n", worst);
    return !(worst < 1e-3); // 519 terms near 1, each rounded at 6e-8 of a sum of up to 100
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "product")) return try_product();
    if (argc == 2 && !strcmp(argv[1], "class")) {
        const char *const names[] = {"SSE", "AVX", "AVX2", "AVX512"};
        printf("%s\n", names[cpu_class()]);
        return 0;
    }
#ifdef __GLIBC__
    CHECK_DIES(EXIT_IO, "error: a library has ended the program", library_exit_begin(); exit(1));
    CHECK_DIES(EXIT_USAGE, "", library_exit_begin(); exit(EXIT_USAGE));
#endif
    test_gelu();
    test_classes();
    test_norm();
    test_subnormals(); // last: what it switches on stays on
    return test_end("machine");
}
