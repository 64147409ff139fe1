// web.h: a page of this machine, over HTTP by libmicrohttpd. From top to bottom:
//
//   guests    connections: those that never said the key go first when there are many
//   door      who may come in
//   requests  one at a time, on a thread of its own, to the program's answer
//
// Who may come in. The address has a key, a random number that is new at each start; a request without it
// gets nothing. `Host` must be an address or "localhost", no other name: a page of the web whose name
// was pointed to 127.0.0.1 after it had been loaded (DNS rebinding) says its own name there. `Origin`,
// where a browser sends it, must be this page. All in all a request of more than MAX_BODY bytes is not
// read, nor more than MAX_GUESTS connections held; one that is silent for SILENCE (seconds) ends.
#ifndef WEB_H
#define WEB_H

#include "../base/common.h" // defines: Text, die
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <microhttpd.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/random.h>
#include <sys/socket.h>

#ifdef __APPLE__
#define OPEN_COMMAND "open"
#else
#define OPEN_COMMAND "xdg-open"
#endif
extern char **environ; // macOS declares it nowhere

enum { MAX_BODY = 1 << 18, MAX_GUESTS = 300, SILENCE = 10, KEY_DIGITS = 32 };

// A request that has come in.
typedef struct {
    const char *path;
    bool post;
    const char *body; // (n) of a POST
    size_t n;
    struct MHD_Connection *connection;
} Request;

enum {
    HTTP_OK = 200,
    HTTP_BAD_REQUEST = 400,
    HTTP_FORBIDDEN = 403,
    HTTP_NOT_FOUND = 404,
    HTTP_WRONG_METHOD = 405,
    HTTP_CONFLICT = 409,
    HTTP_TOO_LARGE = 413,
    HTTP_NO_ROOM = 507,
};

// What it gets: one of these and a body.
typedef struct {
    unsigned status;
    const char *type;  // its media type; NULL: JSON
    const char *nonce; // of the page's script and style; NULL: it has none
    Text body;
} Reply;

typedef struct {
    struct MHD_Connection *connection;
    int socket;
    bool known; // has said the key
} Guest;

typedef struct {
    struct MHD_Daemon *daemon;
    char key[KEY_DIGITS + 1];
    const char *host; // what it is bound to, as the user named it
    bool local;       // a loopback address: nobody from elsewhere reaches it
    int port;
    Guest guests[MAX_GUESTS + 1]; // in the order in which they came
    int n_guests;
    void (*answer)(void *program, const Request *request, Reply *reply);
    void *program;
    char *opened; // the file by which a browser was sent here; NULL: none
} Web;

// ------------------------------------------------------------------------------------------------
// Guests

// A connection begins or ends. When all places are taken, the oldest that never said the key is shown
// out, else the oldest.
static void web_guest(void *web, struct MHD_Connection *c, void **own,
                      enum MHD_ConnectionNotificationCode what) {
    Web *w = web;
    (void)own;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (w->n_guests >= MAX_GUESTS) {
            int i = 0;
            while (i < w->n_guests && w->guests[i].known) i++;
            shutdown(w->guests[i % w->n_guests].socket, SHUT_RDWR);
        }
        w->guests[w->n_guests++] = (Guest){c, info->connect_fd, false};
        return;
    }
    int i = 0;
    while (i < w->n_guests && w->guests[i].connection != c) i++;
    if (i == w->n_guests) return;
    memmove(w->guests + i, w->guests + i + 1, (size_t)(--w->n_guests - i) * sizeof(Guest));
}

// A connection has said the key.
static void guest_known(Web *w, const struct MHD_Connection *c) {
    for (int i = 0; i < w->n_guests; i++)
        if (w->guests[i].connection == c) w->guests[i].known = true;
}

// ------------------------------------------------------------------------------------------------
// Door

// A new random number as digits.
static void random_digits(char out[KEY_DIGITS + 1]) {
    unsigned char bytes[KEY_DIGITS / 2];
    if (getentropy(bytes, sizeof bytes)) die(EXIT_IO, "no random numbers: %s", strerror(errno));
    for (int i = 0; i < KEY_DIGITS / 2; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

// True if this is the key. The time does not tell how much of it was right.
static bool key_fits(const Web *w, const char *key) {
    if (!key || strlen(key) != KEY_DIGITS) return false;
    unsigned char differs = 0;
    for (int i = 0; i < KEY_DIGITS; i++) differs |= (unsigned char)(key[i] ^ w->key[i]);
    return !differs;
}

// True if this is a number of the network, not a name.
static bool is_address(const char *s) {
    unsigned char bytes[16];
    return inet_pton(AF_INET, s, bytes) == 1 || inet_pton(AF_INET6, s, bytes) == 1;
}

// True if a request for this host, "NAME", "NAME:PORT" or "[ADDRESS]:PORT", is meant for us. The port
// is left open: it may have been forwarded.
static bool host_fits(const Web *w, const char *host) {
    char name[256];
    if (!host || strlen(host) >= sizeof name) return false;
    strcpy(name, *host == '[' ? host + 1 : host);
    char *end = strchr(name, *host == '[' ? ']' : ':');
    if (end) *end = 0;
    if (!strcmp(name, w->host) || !strcmp(name, "localhost")) return true;
    return w->local ? !strcmp(name, "127.0.0.1") || !strcmp(name, "::1") : is_address(name);
}

// True if a page of this origin is ours: "http://" and the host that the request is for.
static bool origin_fits(const char *origin, const char *host) {
    if (!origin) return true;
    return text_has_prefix(origin, "http://") && text_has_suffix(origin, host) &&
           strlen(origin) == strlen("http://") + strlen(host);
}

// ------------------------------------------------------------------------------------------------
// Requests

// The value of a request's parameter; NULL: it has none.
static const char *request_value(const Request *q, const char *name) {
    return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

// The object that a body holds, or NULL: it is no JSON, no UTF-8, or has a NUL, which no string of ours can
// hold. cJSON_Delete() it.
static cJSON *body_parse(const char *body, size_t n) {
    const char *end;
    if (!n || utf8_check(body, n) < n || memchr(body, 0, n)) return NULL;
    for (const char *s = body; (s = memmem(s, n - (size_t)(s - body), "u0000", 5)); s += 5) {
        const char *slash = s;
        while (slash > body && slash[-1] == '\\') slash--;
        if ((s - slash) % 2) return NULL; // an escaped NUL, not an escaped slash before u0000
    }
    cJSON *json = cJSON_ParseWithLengthOpts(body, n, &end, false);
    while (json && end < body + n && strchr(" \t\r\n", *end)) end++;
    if (cJSON_IsObject(json) && end == body + n) return json;
    cJSON_Delete(json);
    return NULL;
}

// Make the reply one sentence.
__attribute__((format(printf, 3, 4))) static void reply_say(Reply *r, unsigned status,
                                                            const char *format, ...) {
    va_list args;
    va_start(args, format);
    r->status = status;
    r->type = "text/plain; charset=utf-8";
    r->body.size = 0;
    text_vprint(&r->body, format, args);
    va_end(args);
}

// Send the reply and free it.
static enum MHD_Result reply_send(struct MHD_Connection *c, Reply *r) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(r->body.size, r->body.data, MHD_RESPMEM_MUST_FREE);
    // Nothing from elsewhere, no plugin, no frame around it; scripts and styles are the page's own.
    char *policy =
        text_format("default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
                    "form-action 'none'; frame-ancestors 'none'; script-src 'nonce-%s'; "
                    "style-src 'nonce-%s'",
                    r->nonce ? r->nonce : "", r->nonce ? r->nonce : "");
    const char *const headers[][2] = {
        {"Content-Type", r->type ? r->type : "application/json"},
        {"Content-Security-Policy", policy},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cache-Control", "no-store"},
    };
    for (int i = 0; i < COUNT(headers); i++)
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
    if (r->status != HTTP_OK) MHD_add_response_header(response, "Connection", "close");
    if (r->status == HTTP_WRONG_METHOD) MHD_add_response_header(response, "Allow", "GET, POST");
    const enum MHD_Result result = MHD_queue_response(c, r->status, response);
    MHD_destroy_response(response);
    free(policy);
    return result;
}

// Why a request may not come in: sets the reply and returns true.
static bool web_refuses(Web *w, struct MHD_Connection *c, const char *method, Reply *r) {
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");
    const char *origin = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
    const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
    const char *key = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "X-Key");
    if (!key) key = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "key");
    if (strcmp(method, "GET") && strcmp(method, "POST"))
        reply_say(r, HTTP_WRONG_METHOD, "expected GET or POST\n");
    else if (!host_fits(w, host))
        reply_say(r, HTTP_FORBIDDEN, "this is not the host that you asked for\n");
    else if (!origin_fits(origin, host))
        reply_say(r, HTTP_FORBIDDEN, "this was asked by another page\n");
    else if (!key_fits(w, key))
        reply_say(r, HTTP_FORBIDDEN,
                  "the key is not right: open the address that label has printed\n");
    else if (length && strtoull(length, NULL, 10) > MAX_BODY)
        reply_say(r, HTTP_TOO_LARGE, "more than %d bytes\n", MAX_BODY);
    else return false;
    return true;
}

// libmicrohttpd's call: first when the head of a request is there, then for each piece of its body, last
// with none.
static enum MHD_Result web_request(void *web, struct MHD_Connection *c, const char *path,
                                   const char *method, const char *version, const char *piece,
                                   size_t *n, void **own) {
    Web *w = web;
    Reply reply = {.status = HTTP_OK};
    (void)version;
    if (!*own) {
        if (web_refuses(w, c, method, &reply)) return reply_send(c, &reply);
        guest_known(w, c);
        *own = mem_alloc(1, sizeof(Text));
        return MHD_YES;
    }
    Text *body = *own;
    if (*n) {
        if (body->size <= MAX_BODY) text_append(body, piece, *n); // at most a piece too much
        *n = 0;
        return MHD_YES;
    }
    const Request request = {path, !strcmp(method, "POST"), body->data, body->size, c};
    if (body->size > MAX_BODY) reply_say(&reply, HTTP_TOO_LARGE, "more than %d bytes\n", MAX_BODY);
    else w->answer(w->program, &request, &reply);
    return reply_send(c, &reply);
}

// A request has ended, in one way or another.
static void web_done(void *web, struct MHD_Connection *c, void **own,
                     enum MHD_RequestTerminationCode how) {
    (void)web, (void)c, (void)how;
    if (*own) text_free(*own);
    free(*own);
    *own = NULL;
}

// Serve on a thread of its own, at host (an address, or "localhost") and port (0: any that is free). Dies
// if it cannot. `answer` gets every request that may come in, one after the other.
static void web_begin(Web *w, const char *host, int port,
                      void (*answer)(void *, const Request *, Reply *), void *program) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const char *number = strcmp(host, "localhost") ? host : "127.0.0.1";
    const bool is_six = inet_pton(AF_INET6, number, &six.sin6_addr) == 1;
    if (!is_six && inet_pton(AF_INET, number, &four.sin_addr) != 1)
        die(EXIT_USAGE, "--host %s: expected an address, as 127.0.0.1", host);
    *w = (Web){.host = host, .answer = answer, .program = program};
    w->local =
        is_six ? IN6_IS_ADDR_LOOPBACK(&six.sin6_addr) : ntohl(four.sin_addr.s_addr) >> 24 == 127;
    random_digits(w->key);
    w->daemon = MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | (is_six ? MHD_USE_IPv6 : 0), 0, NULL, NULL, web_request, w,
        MHD_OPTION_SOCK_ADDR, is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_GUESTS + 1, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)SILENCE, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768,
        MHD_OPTION_NOTIFY_CONNECTION, web_guest, w, MHD_OPTION_NOTIFY_COMPLETED, web_done, w,
        MHD_OPTION_END);
    if (!w->daemon) die(EXIT_IO, "%s port %d: cannot be served: %s", host, port, strerror(errno));
    w->port = MHD_get_daemon_info(w->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

// The address of the page, without who; free() it.
static char *web_address(const Web *w) {
    const bool six = strchr(w->host, ':');
    return text_format("http://%s%s%s:%d/?key=%s", six ? "[" : "", w->host, six ? "]" : "", w->port,
                       w->key);
}

// Print the address. With `beside` (or NULL) open it in the user's browser, too: not as an argument, which
// everyone on this machine can see, but by a file in that path's folder, which only the user can read.
static void web_tell(Web *w, const char *beside) {
    char *address = web_address(w);
    printf("%s\n", address);
    fflush(stdout);
    if (beside) {
        w->opened = text_format("%s.open.html", beside);
        unlink(w->opened);
        const int fd = open(w->opened, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        char *page = text_format("<meta http-equiv=\"refresh\" content=\"0; url=%s\">\n", address);
        const char *const argv[] = {OPEN_COMMAND, w->opened, NULL};
        pid_t child;
        int error = fd < 0 || write(fd, page, strlen(page)) < 0 ? errno : 0;
        if (!error) error = posix_spawnp(&child, argv[0], NULL, NULL, (char *const *)argv, environ);
        if (error) warn("--open: %s: %s", argv[0], strerror(error));
        if (fd >= 0) close(fd);
        free(page);
    }
    free(address);
}

// End it: no request is answered any more.
static void web_end(Web *w) {
    MHD_stop_daemon(w->daemon);
    if (w->opened) unlink(w->opened);
    free(w->opened);
}

#endif
