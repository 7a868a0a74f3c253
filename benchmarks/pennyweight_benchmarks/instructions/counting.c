/*
 * A QEMU plugin that counts the instructions a program executes between its own marks.
 *
 * The program marks with getpriority(0, MARK + k), a system call that it has no other use for and that changes nothing:
 * one line "k instructions threads" goes to the file of the argument out=FILE, and counting begins again. All threads
 * count; "threads" is how many executed anything since the last mark.
 *
 * It is built without QEMU's header, which Debian packages nowhere: what it uses of the plugin interface, version 1
 * (QEMU 6.1 to 8.2), is declared here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x50570000u
#define MARKS 0xffffu
#define THREADS 256

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
typedef struct {
    const char *target_name;
    struct {
        int min;
        int cur;
    } version;
} plugin_info;
typedef void (*on_translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*on_executed)(unsigned, void *);
typedef void (*on_syscall)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t);
enum { NO_REGISTERS = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translated);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_executed, int flags, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_syscall);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;

/* A thread's count has a cache line of its own; its index is QEMU's, and those beyond share the last. */
static struct {
    uint64_t instructions;
    char apart[56];
} counts[THREADS];
static FILE *out;
static int64_t getpriority_number;

static void executed(unsigned thread, void *instructions) {
    counts[thread < THREADS ? thread : THREADS - 1].instructions += (uintptr_t)instructions;
}

/* A block of instructions is left early only by a signal or a fault; a system call ends one, so marks cut exactly. */
static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    uintptr_t instructions = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, (void *)instructions);
}

static void marked(plugin_id id, unsigned thread, int64_t number, uint64_t which, uint64_t who, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)thread, (void)which, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != getpriority_number || ((uint32_t)who & ~MARKS) != MARK) return;
    uint64_t sum = 0;
    unsigned threads = 0;
    for (unsigned k = 0; k < THREADS; k++) {
        sum += counts[k].instructions;
        threads += counts[k].instructions != 0;
    }
    fprintf(out, "%u %llu %u\n", (uint32_t)who & MARKS, (unsigned long long)sum, threads);
    fflush(out);
    memset(counts, 0, sizeof counts);
}

EXPORT int qemu_plugin_install(plugin_id id, const plugin_info *info, int argc, char **argv) {
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "counting: give out=FILE, a file that can be written\n");
        return -1;
    }
    getpriority_number = strcmp(info->target_name, "arm") ? 141 : 96;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, marked);
    return 0;
}
