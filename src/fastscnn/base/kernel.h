/* What all compiled kernels share. */
#ifndef FASTSCNN_KERNEL_H
#define FASTSCNN_KERNEL_H

/* a * b + c is rounded twice, as in NumPy, although compilers fuse it by default: otherwise some results would differ. Clang
 * ignores this with -ffp-contract=fast.
 */
#ifdef __FAST_MATH__
#error "Compile without -ffast-math (-Ofast): results would differ, and NaN would not be found."
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

/* One library serves every x86-64: with ifuncs, the loader picks the variant for the processor. Clang hides such functions. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute) && !defined(__clang__)
#if __has_attribute(target_clones)
#define EVERY_X86 __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef EVERY_X86
#define EVERY_X86
#endif

/* A library for Windows exports the functions that say so, one for another system all that are not static. */
#ifdef _WIN32
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED
#endif

/* A function that is not inlined into the exported one would be compiled once, for the oldest processor. */
#ifdef __GNUC__
#define INLINED static inline __attribute__((always_inline))
#else
#define INLINED static inline
#endif

#endif
