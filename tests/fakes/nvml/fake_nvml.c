/* A libnvidia-ml.so.1 without a GPU, for tests: unmodified NVML clients enumerate a text inventory.
 *
 * FAKE_NVML_INVENTORY names the inventory. It is read again whenever stat() changes, so a test re-makes
 * slices or kills a card by renaming a new file over it, also under a running client. One line each:
 *
 *   driver 550.54.15            cuda 12040              init CODE (of nvmlInit)
 *   gpu N uuid=GPU-… name="…" mem_mib=81920 [mig=0|1] [pending=0|1] [max=7] [minor=N] [gpm=0|1] [util=30]
 *         [used_mib=0] [ecc=0] [remap_fail=0|1] [remap_pending=0|1] [recovery=0] [lost=0|1|2]
 *         lost=1: no handle; lost=2: the handle comes, every call on it fails.
 *   mig N INDEX uuid=MIG-… profile=1g.10gb gi=7 [ci=0] [g=1] [c=1] mem_mib=9728 [used_mib=0] [util=10] [name="…"]
 *   proc UUID PID [mem_mib] [mps]
 *   fail FUNCTION GPU|* CODE    slow FUNCTION|* MILLISECONDS    event N TYPE DATA [gi ci]
 *
 * MIG handles are places, not slices: one obtained before a re-partition answers for whatever is in its
 * place afterwards, or INVALID_ARGUMENT when nothing is, as nvml.h warns.
 * Struct layouts are those of nvml.h 11.525 and later. Only what the clients under test call is here; any
 * other function is missing, which they see as FUNCTION_NOT_FOUND, as with an old driver. */
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { CARDS = 64, SLICES = 16, PROCS = 256, FAULTS = 64, EVENTS = 32, TEXT = 96 };
typedef unsigned int uint;
typedef unsigned long long u64;

typedef struct {
    int present, card, index, is_mig;
    char uuid[TEXT], name[TEXT], profile[32];
    long mem, used, util, gi, ci, g, c;                                     /* both; gi… for slices */
    long mig, pending, max, minor, gpm, ecc, remap_fail, remap_pending, recovery, lost; /* cards */
} Dev;
typedef struct { char busIdLegacy[16]; uint domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } Pci;
typedef struct { u64 total, free, used; } Memory;
typedef struct { uint version; u64 total, reserved, free, used; } Memory2;
typedef struct { uint pid; u64 used; uint gi, ci; } Process;
typedef struct { uint sm, copy, dec, enc, jpeg, ofa, g, c; u64 mem; } Attributes;
typedef struct { void *device; u64 type, data; uint gi, ci; } EventData;
typedef struct { uint id, ret; double value; const char *a, *b, *c; } Metric;
typedef struct { uint version, count; void *first, *second; Metric metrics[1]; } MetricsGet;
typedef struct { uint field, scope; long long stamp, latency; uint type, ret; union { double d; uint u; u64 ull; } value; } Field;
_Static_assert(sizeof(Pci) == 68 && sizeof(Memory2) == 40 && sizeof(Process) == 24 && sizeof(Attributes) == 40 &&
               sizeof(EventData) == 32 && sizeof(Metric) == 40 && sizeof(Field) == 40, "layouts of nvml.h");

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Dev cards[CARDS], slices[CARDS][SLICES];
static struct { char uuid[TEXT]; uint pid; long mem; int mps; } procs[PROCS];
static struct { char function[64]; int card, code; } faults[FAULTS];
static struct { char function[64]; long ms; } slow[FAULTS];
static struct { int card; u64 type, data; uint gi, ci; } events[EVENTS];
static int ncards, nprocs, nfaults, nslow, nevents, taken_events, init_code, inits;
static char driver[TEXT], cuda[TEXT];
static struct stat seen;

static const char *value_of(const char *line, const char *key, char *out, size_t size) {
    char pattern[40];
    snprintf(pattern, sizeof pattern, " %s=", key);
    const char *at = strstr(line, pattern);
    if (!at) return NULL;
    at += strlen(pattern);
    char end = *at == '"' ? *at++ : ' ';
    size_t n = 0;
    while (*at && *at != end && *at != '\n' && n + 1 < size) out[n++] = *at++;
    out[n] = 0;
    return out;
}
static long number(const char *line, const char *key, long otherwise) {
    char text[40];
    return value_of(line, key, text, sizeof text) ? strtol(text, NULL, 0) : otherwise;
}

static void read_gpu(const char *line, int n) {
    Dev *d = &cards[n];
    *d = (Dev){.present = 1, .card = n, .index = n, .mem = number(line, "mem_mib", 0), .used = number(line, "used_mib", 0),
               .util = number(line, "util", 0), .mig = number(line, "mig", -1), .max = number(line, "max", 7),
               .minor = number(line, "minor", n), .gpm = number(line, "gpm", 0), .ecc = number(line, "ecc", 0),
               .remap_fail = number(line, "remap_fail", 0), .remap_pending = number(line, "remap_pending", 0),
               .recovery = number(line, "recovery", -1), .lost = number(line, "lost", 0)};
    d->pending = number(line, "pending", d->mig);
    value_of(line, "uuid", d->uuid, TEXT);
    value_of(line, "name", d->name, TEXT);
    if (n >= ncards) ncards = n + 1;
}
static void read_mig(const char *line, int n, int index) {
    Dev *d = &slices[n][index];
    char name[TEXT];
    *d = (Dev){.present = 1, .card = n, .index = index, .is_mig = 1, .mem = number(line, "mem_mib", 0),
               .used = number(line, "used_mib", 0), .util = number(line, "util", 0), .gi = number(line, "gi", index + 1),
               .ci = number(line, "ci", 0), .g = number(line, "g", 0), .c = number(line, "c", 0)};
    value_of(line, "uuid", d->uuid, TEXT);
    value_of(line, "profile", d->profile, sizeof d->profile);
    const char *digit = strstr(d->profile, "g.");
    if (!d->g && digit && digit > d->profile) d->g = digit[-1] - '0';
    if (!d->c) d->c = strstr(d->profile, "c.") ? d->profile[0] - '0' : d->g;
    if (value_of(line, "name", name, TEXT)) snprintf(d->name, TEXT, "%s", name);
    else {
        char profile[32];
        strcpy(name, cards[n].name);
        strcpy(profile, d->profile);
        snprintf(d->name, TEXT, "%.60s MIG %.24s", name, profile);
    }
}
static void read_line(const char *line) {
    int n, index, code, mps = 0;
    char word[TEXT], who[16];
    long value = 0;
    u64 type, data;
    uint gi = ~0u, ci = ~0u, pid;
    if (sscanf(line, "driver %95s", word) == 1) strcpy(driver, word);
    else if (sscanf(line, "cuda %95s", word) == 1) strcpy(cuda, word);
    else if (sscanf(line, "init %d", &code) == 1) init_code = code;
    else if (sscanf(line, "gpu %d", &n) == 1 && n >= 0 && n < CARDS) read_gpu(line, n);
    else if (sscanf(line, "mig %d %d", &n, &index) == 2 && n >= 0 && n < CARDS && index >= 0 && index < SLICES) read_mig(line, n, index);
    else if (sscanf(line, "proc %95s %u %ld", word, &pid, &value) >= 2 && nprocs < PROCS) {
        mps = strstr(line, " mps") != NULL;
        strcpy(procs[nprocs].uuid, word);
        procs[nprocs].pid = pid;
        procs[nprocs].mem = value;
        procs[nprocs++].mps = mps;
    } else if (sscanf(line, "fail %63s %15s %d", word, who, &code) == 3 && nfaults < FAULTS) {
        strcpy(faults[nfaults].function, word);
        faults[nfaults].card = who[0] == '*' ? -1 : atoi(who);
        faults[nfaults++].code = code;
    } else if (sscanf(line, "slow %63s %ld", word, &value) == 2 && nslow < FAULTS) {
        strcpy(slow[nslow].function, word);
        slow[nslow++].ms = value;
    } else if (sscanf(line, "event %d %llu %llu %u %u", &n, &type, &data, &gi, &ci) >= 3 && nevents < EVENTS) {
        events[nevents].card = n;
        events[nevents].type = type;
        events[nevents].data = data;
        events[nevents].gi = gi;
        events[nevents++].ci = ci;
    }
}
static void reload(void) {
    const char *path = getenv("FAKE_NVML_INVENTORY");
    struct stat now;
    if (!path || stat(path, &now)) return;
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    char line[1024];
    memset(cards, 0, sizeof cards);
    memset(slices, 0, sizeof slices);
    ncards = nprocs = nfaults = nslow = nevents = taken_events = init_code = 0;
    strcpy(driver, "550.54.15");
    strcpy(cuda, "12040");
    while (fgets(line, sizeof line, file)) read_line(line);
    fclose(file);
    seen = now;
}

/* Every call begins here: latency, fresh inventory, initialised?, an injected fault of this function. */
static int enter(const char *function, Dev *d) {
    long ms = 0;
    pthread_mutex_lock(&mutex);
    reload();
    for (int i = 0; i < nslow; i++)
        if (!strcmp(slow[i].function, function) || slow[i].function[0] == '*') ms = slow[i].ms;
    if (ms) {
        pthread_mutex_unlock(&mutex);
        usleep((useconds_t)ms * 1000);
        pthread_mutex_lock(&mutex);
    }
    if (!inits) return UNINITIALIZED;
    for (int i = 0; i < nfaults; i++)
        if ((!strcmp(faults[i].function, function) || faults[i].function[0] == '*') &&
            (faults[i].card < 0 || (d && faults[i].card == d->card))) return faults[i].code;
    if (d && !d->present) return d >= cards && d < cards + CARDS ? NOT_FOUND : INVALID;
    if (d && cards[d->card].lost) return LOST;
    return OK;
}
static int leave(int code) {
    pthread_mutex_unlock(&mutex);
    return code;
}
#define ENTER(device) do { int code_ = enter(__func__, device); if (code_) return leave(code_); } while (0)
#define FAIL_IF(condition, code) do { if (condition) return leave(code); } while (0)
static int text(char *out, uint size, const char *from) {
    FAIL_IF(strlen(from) + 1 > size, TOO_SMALL);
    strcpy(out, from);
    return leave(OK);
}

API int nvmlInitWithFlags(uint flags) {
    (void)flags;
    pthread_mutex_lock(&mutex);
    reload();
    if (!init_code) inits++;
    return leave(init_code);
}
API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API int nvmlShutdown(void) {
    pthread_mutex_lock(&mutex);
    if (!inits) return leave(UNINITIALIZED);
    inits--;
    return leave(OK);
}
API const char *nvmlErrorString(int code) {
    static const char *const names[] = {"Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions"};
    return code >= 0 && code < 5 ? names[code] : code == LOST ? "GPU is lost" : "Unknown Error";
}
API int nvmlSystemGetDriverVersion(char *out, uint size) { ENTER(NULL); return text(out, size, driver); }
API int nvmlSystemGetNVMLVersion(char *out, uint size) { ENTER(NULL); return text(out, size, driver); }
API int nvmlSystemGetCudaDriverVersion(int *out) { ENTER(NULL); *out = atoi(cuda); return leave(OK); }
API int nvmlSystemGetCudaDriverVersion_v2(int *out) { ENTER(NULL); *out = atoi(cuda); return leave(OK); }
API int nvmlDeviceGetCount_v2(uint *out) { ENTER(NULL); *out = (uint)ncards; return leave(OK); }
API int nvmlDeviceGetHandleByIndex_v2(uint index, Dev **out) {
    ENTER(NULL);
    FAIL_IF((int)index >= ncards || !cards[index].present, INVALID);
    for (int i = 0; i < nfaults; i++)
        FAIL_IF(!strcmp(faults[i].function, __func__) && faults[i].card == (int)index, faults[i].code);
    FAIL_IF(cards[index].lost == 1, LOST);
    *out = &cards[index];
    return leave(OK);
}
API int nvmlDeviceGetHandleByUUID(const char *uuid, Dev **out) {
    ENTER(NULL);
    for (int i = 0; i < ncards; i++) {
        if (cards[i].present && !strcmp(cards[i].uuid, uuid)) { *out = &cards[i]; return leave(cards[i].lost == 1 ? LOST : OK); }
        for (int j = 0; j < SLICES; j++)
            if (slices[i][j].present && !strcmp(slices[i][j].uuid, uuid)) { *out = &slices[i][j]; return leave(OK); }
    }
    return leave(NOT_FOUND);
}
API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, Dev **out) {
    uint n;
    ENTER(NULL);
    const char *colon = strchr(bus, ':');
    FAIL_IF(!colon || sscanf(colon, ":%x", &n) != 1 || n < 1 || (int)n > ncards, NOT_FOUND);
    *out = &cards[n - 1];
    return leave(cards[n - 1].lost == 1 ? LOST : OK);
}
API int nvmlDeviceGetUUID(Dev *d, char *out, uint size) { ENTER(d); return text(out, size, d->uuid); }
API int nvmlDeviceGetName(Dev *d, char *out, uint size) { ENTER(d); return text(out, size, d->name); }
API int nvmlDeviceGetIndex(Dev *d, uint *out) { ENTER(d); *out = (uint)d->index; return leave(OK); }
API int nvmlDeviceGetMinorNumber(Dev *d, uint *out) {
    ENTER(d);
    FAIL_IF(d->is_mig, NOT_SUPPORTED);
    *out = (uint)d->minor;
    return leave(OK);
}
API int nvmlDeviceGetPciInfo_v3(Dev *d, Pci *out) {
    ENTER(d);
    memset(out, 0, sizeof *out);
    out->bus = (uint)d->card + 1;
    snprintf(out->busIdLegacy, sizeof out->busIdLegacy, "0000:%02X:00.0", out->bus);
    snprintf(out->busId, sizeof out->busId, "00000000:%02X:00.0", out->bus);
    return leave(OK);
}
API int nvmlDeviceGetMemoryInfo(Dev *d, Memory *out) {
    ENTER(d);
    *out = (Memory){(u64)d->mem << 20, (u64)(d->mem - d->used) << 20, (u64)d->used << 20};
    return leave(OK);
}
API int nvmlDeviceGetMemoryInfo_v2(Dev *d, Memory2 *out) {
    ENTER(d);
    FAIL_IF(out->version != 0x02000028, 25);
    *out = (Memory2){out->version, (u64)d->mem << 20, 0, (u64)(d->mem - d->used) << 20, (u64)d->used << 20};
    return leave(OK);
}
API int nvmlDeviceGetUtilizationRates(Dev *d, uint out[2]) {
    ENTER(d);
    FAIL_IF(d->is_mig || d->mig == 1, NOT_SUPPORTED);
    out[0] = (uint)d->util;
    out[1] = 0;
    return leave(OK);
}
static int processes(Dev *d, uint *count, Process *out, int mps) {
    uint n = 0, room = *count;
    for (int i = 0; i < nprocs; i++) {
        uint gi = ~0u, ci = ~0u;
        if (procs[i].mps != mps) continue;
        if (strcmp(procs[i].uuid, d->uuid)) {   /* a card also lists what runs on its slices */
            Dev *slice = NULL;
            for (int j = 0; j < SLICES && !d->is_mig; j++)
                if (slices[d->card][j].present && !strcmp(slices[d->card][j].uuid, procs[i].uuid)) slice = &slices[d->card][j];
            if (!slice) continue;
            gi = (uint)slice->gi, ci = (uint)slice->ci;
        } else if (d->is_mig) gi = (uint)d->gi, ci = (uint)d->ci;
        if (n < room && out) out[n] = (Process){procs[i].pid, (u64)procs[i].mem << 20, gi, ci};
        n++;
    }
    *count = n;
    return leave(n > room ? TOO_SMALL : OK);
}
API int nvmlDeviceGetComputeRunningProcesses_v3(Dev *d, uint *count, Process *out) { ENTER(d); return processes(d, count, out, 0); }
API int nvmlDeviceGetMPSComputeRunningProcesses_v3(Dev *d, uint *count, Process *out) { ENTER(d); return processes(d, count, out, 1); }
API int nvmlDeviceGetGraphicsRunningProcesses_v3(Dev *d, uint *count, Process *out) { ENTER(d); (void)out; *count = 0; return leave(OK); }
API int nvmlDeviceGetMigMode(Dev *d, uint *current, uint *pending) {
    ENTER(d);
    FAIL_IF(d->is_mig || d->mig < 0, NOT_SUPPORTED);
    *current = (uint)d->mig;
    *pending = (uint)d->pending;
    return leave(OK);
}
API int nvmlDeviceGetMaxMigDeviceCount(Dev *d, uint *out) {
    ENTER(d);
    *out = d->mig < 0 ? 0 : (uint)d->max;
    return leave(OK);
}
API int nvmlDeviceGetMigDeviceHandleByIndex(Dev *d, uint index, Dev **out) {
    ENTER(d);
    FAIL_IF(d->mig < 0 || d->mig == 0, NOT_SUPPORTED);
    FAIL_IF(index >= SLICES, INVALID);
    FAIL_IF(!slices[d->card][index].present, NOT_FOUND);
    *out = &slices[d->card][index];
    return leave(OK);
}
API int nvmlDeviceIsMigDeviceHandle(Dev *d, uint *out) { ENTER(d); *out = (uint)d->is_mig; return leave(OK); }
API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Dev *d, Dev **out) {
    ENTER(d);
    FAIL_IF(!d->is_mig, INVALID);
    *out = &cards[d->card];
    return leave(OK);
}
API int nvmlDeviceGetGpuInstanceId(Dev *d, uint *out) { ENTER(d); FAIL_IF(!d->is_mig, NOT_SUPPORTED); *out = (uint)d->gi; return leave(OK); }
API int nvmlDeviceGetComputeInstanceId(Dev *d, uint *out) { ENTER(d); FAIL_IF(!d->is_mig, NOT_SUPPORTED); *out = (uint)d->ci; return leave(OK); }
API int nvmlDeviceGetAttributes_v2(Dev *d, Attributes *out) {
    ENTER(d);
    FAIL_IF(!d->is_mig, NOT_SUPPORTED);
    *out = (Attributes){.sm = (uint)d->c * 14, .g = (uint)d->g, .c = (uint)d->c, .mem = (u64)d->mem};
    return leave(OK);
}
API int nvmlDeviceGetRemappedRows(Dev *d, uint *corr, uint *unc, uint *pending, uint *failed) {
    ENTER(d);
    FAIL_IF(d->is_mig, NOT_SUPPORTED);
    *corr = *unc = 0;
    *pending = (uint)d->remap_pending;
    *failed = (uint)d->remap_fail;
    return leave(OK);
}
API int nvmlDeviceGetTotalEccErrors(Dev *d, uint type, uint counter, u64 *out) {
    (void)counter;
    ENTER(d);
    FAIL_IF(d->ecc < 0, NOT_SUPPORTED);
    *out = type == 1 ? (u64)d->ecc : 0;
    return leave(OK);
}
API int nvmlDeviceGetFieldValues(Dev *d, int count, Field *fields) {
    ENTER(d);
    for (int i = 0; i < count; i++) {
        fields[i].ret = fields[i].field == 230 && d->recovery >= 0 ? OK : NOT_SUPPORTED;
        fields[i].type = 1;
        fields[i].value.u = (uint)d->recovery;
    }
    return leave(OK);
}

/* GPM: a sample remembers the load of its slice or card. */
typedef struct { double util; } Sample;
API int nvmlGpmQueryDeviceSupport(Dev *d, uint out[2]) { ENTER(d); out[1] = (uint)d->gpm; return leave(OK); }
API int nvmlGpmSampleAlloc(Sample **out) { *out = calloc(1, sizeof **out); return *out ? OK : 20; }
API int nvmlGpmSampleFree(Sample *sample) { free(sample); return OK; }
API int nvmlGpmSampleGet(Dev *d, Sample *sample) { ENTER(d); FAIL_IF(!d->gpm, NOT_SUPPORTED); sample->util = (double)d->util; return leave(OK); }
API int nvmlGpmMigSampleGet(Dev *d, uint gi, Sample *sample) {
    ENTER(d);
    FAIL_IF(!d->gpm, NOT_SUPPORTED);
    for (int j = 0; j < SLICES; j++)
        if (slices[d->card][j].present && slices[d->card][j].gi == (long)gi) { sample->util = (double)slices[d->card][j].util; return leave(OK); }
    return leave(INVALID);
}
API int nvmlGpmMetricsGet(MetricsGet *query) {
    pthread_mutex_lock(&mutex);
    FAIL_IF(query->version != 1, 25);
    for (uint i = 0; i < query->count; i++) {
        query->metrics[i].ret = query->metrics[i].id == 1 ? OK : NOT_SUPPORTED;
        query->metrics[i].value = ((Sample *)query->second)->util;
    }
    return leave(OK);
}

/* Events: each line of the inventory is delivered once to whoever waits. */
API int nvmlEventSetCreate(void **out) { *out = malloc(1); return *out ? OK : 20; }
API int nvmlEventSetFree(void *set) { free(set); return OK; }
API int nvmlDeviceGetSupportedEventTypes(Dev *d, u64 *out) { ENTER(d); *out = 0xC10B; return leave(OK); }
API int nvmlDeviceRegisterEvents(Dev *d, u64 types, void *set) { (void)types; (void)set; ENTER(d); return leave(d->is_mig ? NOT_SUPPORTED : OK); }
API int nvmlEventSetWait_v2(void *set, EventData *out, uint ms) {
    (void)set;
    for (uint waited = 0;; waited += 10) {
        int code = enter(__func__, NULL);
        if (code) return leave(code);
        if (taken_events < nevents) {
            int i = taken_events++;
            *out = (EventData){&cards[events[i].card], events[i].type, events[i].data, events[i].gi, events[i].ci};
            return leave(OK);
        }
        leave(OK);
        if (waited >= ms) return TIMEOUT;
        usleep(10000);
    }
}
