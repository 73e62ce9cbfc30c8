/* Fused multiply-adds per second of one core, float32: independent chains in registers, as many as latency x ports asks for. Prints GFLOP/s. */
#include <stdio.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#define CHAINS 20
#elif defined(__AVX__)
#define BYTES 32
#define CHAINS 12
#else
#define BYTES 16
#define CHAINS 20
#endif

typedef float vec __attribute__((vector_size(BYTES)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(void) {
    const long turns = 1000000;
    double best = 0;
    for (int repeat = 0; repeat < 30; repeat++) {
        vec chain[CHAINS], a, b;
        for (int i = 0; i < BYTES / 4; i++) a[i] = 0.5f, b[i] = 1.0f;
        for (int i = 0; i < CHAINS; i++) chain[i] = b;
        /* the compiler may not know the factors, or it would fold the loop */
        __asm__ volatile("" : "+m"(a), "+m"(b));
        double start = now();
        for (long n = 0; n < turns; n++)
#pragma GCC unroll 32
            for (int i = 0; i < CHAINS; i++) chain[i] = chain[i] * a + b;
        double seconds = now() - start;
        for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "m"(chain[i]));
        double gflops = 2.0 * turns * CHAINS * (BYTES / 4) / seconds * 1e-9;
        if (gflops > best) best = gflops;
    }
    printf("%.3f\n", best);
    return 0;
}
