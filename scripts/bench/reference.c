/* The limit: the calls that are necessary for an entry, made by a program that does nothing else.
 *
 *   reference events DIRECTORY COUNT           handle COUNT entries as they are renamed in
 *   reference drain DIRECTORY COUNT            handle a backlog: batches of 32768, oldest first
 *   reference drain-any DIRECTORY COUNT        handle a backlog in the order of readdir(3)
 *   reference commit DIRECTORY COUNT SIZE      commit COUNT entries, each durable before the next
 *   reference handle FILE LOG                  one entry, for programs that start a command for each
 *
 * For an entry: openat without following links, flock, fstat, read, (the handler starts), unlinkat,
 * close. Events are read as many at once as the kernel has. A backlog's scan asks for the ctime of
 * every file, because the promise "first come, first served" needs it; drain-any shows its price.
 *
 * A name is SECONDS.NANOSECONDS+NUMBER.pck: the moment of its rename on CLOCK_MONOTONIC. The result
 * is one line of JSON; moments and latencies are nanoseconds. Entries that were never heard of are
 * missing from "handled": this program has no sweep. Ends with 1, and a line, if a call fails.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH 32768
#define PATIENCE 20 /* seconds without an event, after which what is missing is lost */

static int directory;
static int64_t *latencies;
static long wanted, handled, overflows;
static int64_t began, first, last, first_commit = INT64_MAX;
static char contents[1 << 20];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return (int64_t)moment.tv_sec * 1000000000 + moment.tv_nsec;
}

static int64_t committed(const char *name) {
    char *rest;
    int64_t seconds = strtoll(name, &rest, 10);
    return seconds * 1000000000 + (*rest == '.' ? strtoll(rest + 1, NULL, 10) : 0);
}

static int is_entry(const char *name) {
    size_t length = strlen(name);
    return name[0] != '.' && length > 4 && strcmp(name + length - 4, ".pck") == 0;
}

/* One entry, from its name to its end. */
static void attempt(const char *name) {
    struct stat status;
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            return;
        die(name);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &status))
        die("claim");
    if (read(fd, contents, sizeof contents) < 0)
        die("read");
    last = now(); /* the handler starts */
    if (handled == 0)
        first = last;
    if (committed(name) < first_commit)
        first_commit = committed(name);
    latencies[handled++] = last - committed(name);
    if (unlinkat(directory, name, 0))
        die("unlinkat");
    close(fd);
}

static void give_up(int number) {
    (void)number; /* the read that it interrupts ends the loop */
}

static void events(const char *path) {
    static char buffer[1 << 16] __attribute__((aligned(8)));
    struct sigaction action = {.sa_handler = give_up};
    int watch = inotify_init1(IN_CLOEXEC);
    if (watch < 0 || inotify_add_watch(watch, path, IN_MOVED_TO | IN_ONLYDIR) < 0)
        die("inotify");
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    puts("ready");
    fflush(stdout);
    began = now();
    alarm(PATIENCE);
    while (handled < wanted) {
        ssize_t length = read(watch, buffer, sizeof buffer);
        if (length < 0)
            break;
        for (char *at = buffer; at < buffer + length;) {
            struct inotify_event *event = (struct inotify_event *)at;
            if (event->mask & IN_Q_OVERFLOW)
                overflows++;
            else if (event->len && is_entry(event->name) && handled < wanted)
                attempt(event->name);
            at += sizeof *event + event->len;
        }
    }
}

struct found {
    int64_t changed;
    char name[88];
};

static int older(const void *one, const void *other) {
    const struct found *a = one, *b = other;
    if (a->changed != b->changed)
        return a->changed < b->changed ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Keep the oldest BATCH of a streaming scan: fill twice that, sort, keep the first half. */
static long oldest(DIR *stream, struct found *batch) {
    long count = 0;
    struct dirent *item;
    struct stat status;
    rewinddir(stream);
    while ((item = readdir(stream))) {
        if (!is_entry(item->d_name) || strlen(item->d_name) >= sizeof batch->name)
            continue;
        if (fstatat(directory, item->d_name, &status, AT_SYMLINK_NOFOLLOW))
            continue;
        batch[count].changed = (int64_t)status.st_ctim.tv_sec * 1000000000 + status.st_ctim.tv_nsec;
        strcpy(batch[count++].name, item->d_name);
        if (count == 2 * BATCH) {
            qsort(batch, count, sizeof *batch, older);
            count = BATCH;
        }
    }
    qsort(batch, count, sizeof *batch, older);
    return count < BATCH ? count : BATCH;
}

static void drain(int in_order) {
    DIR *stream = fdopendir(dup(directory));
    struct found *batch = malloc(2 * BATCH * sizeof *batch);
    struct dirent *item;
    if (!stream || !batch)
        die("scan");
    began = now();
    while (in_order && handled < wanted) {
        long count = oldest(stream, batch);
        if (count == 0)
            break;
        for (long each = 0; each < count && handled < wanted; each++)
            attempt(batch[each].name);
    }
    while (!in_order && handled < wanted && (item = readdir(stream)))
        if (is_entry(item->d_name))
            attempt(item->d_name);
}

static void commit(long count, size_t size) {
    char name[88], scratch[96];
    memset(contents, 'x', sizeof contents);
    for (long each = 0; each < count; each++) {
        int64_t start = now();
        if (each == 0)
            first = start;
        snprintf(name, sizeof name, "%ld.%09ld+%040ld.pck", (long)(start / 1000000000),
                 (long)(start % 1000000000), each);
        snprintf(scratch, sizeof scratch, "%s.tmp", name);
        int fd = openat(directory, scratch, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0660);
        if (fd < 0 || write(fd, contents, size) != (ssize_t)size || fsync(fd) || close(fd))
            die("write");
        if (renameat(directory, scratch, directory, name) || fsync(directory))
            die("rename");
        last = now();
        latencies[handled++] = last - start;
    }
}

static int smaller(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

/* The nearest rank: the smallest value that so many percent are not above. */
static int64_t percentile(long percent) {
    long rank = (handled * percent + 99) / 100;
    return handled ? latencies[rank > 0 ? rank - 1 : 0] : 0;
}

static int handle(const char *file, const char *log) {
    char line[512];
    const char *slash = strrchr(file, '/');
    const char *name = slash ? slash + 1 : file;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int length = snprintf(line, sizeof line, "%lld %lld\n", (long long)committed(name), (long long)now());
    if (fd < 0 || write(fd, line, length) != length)
        die(log);
    return unlink(file) != 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "handle") == 0)
        return handle(argv[2], argv[3]);
    if (argc < 4) {
        fputs("usage: reference events|drain|drain-any|commit DIRECTORY COUNT [SIZE]\n", stderr);
        return 64;
    }
    wanted = atol(argv[3]);
    latencies = calloc(wanted ? wanted : 1, sizeof *latencies);
    directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!latencies || directory < 0)
        die(argv[2]);
    if (strcmp(argv[1], "events") == 0)
        events(argv[2]);
    else if (strncmp(argv[1], "drain", 5) == 0)
        drain(strcmp(argv[1], "drain") == 0);
    else if (strcmp(argv[1], "commit") == 0 && argc == 5)
        commit(wanted, strtoul(argv[4], NULL, 10) & (sizeof contents - 1));
    else
        return 64;
    qsort(latencies, handled, sizeof *latencies, smaller);
    printf("{\"handled\": %ld, \"overflows\": %ld, \"began\": %lld, \"first\": %lld, \"last\": %lld, "
           "\"first_commit\": %lld, \"p50\": %lld, \"p99\": %lld, \"most\": %lld}\n",
           handled, overflows, (long long)began, (long long)first, (long long)last,
           (long long)(handled ? first_commit : 0), (long long)percentile(50),
           (long long)percentile(99), (long long)percentile(100));
    return 0;
}
