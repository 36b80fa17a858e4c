/*
 * Negotiates Token Binding (RFC 8472, TLS extension 24) in the OpenSSL that is inside Node.
 *
 * Node has no API for TLS extensions and none that leads from a TLSSocket to its SSL object. Two
 * public parts of OpenSSL are enough:
 *
 *  - Application data slots ("ex_data"). A slot's callbacks run when an SSL_CTX is made, and when an
 *    SSL_CTX or an SSL is freed. So the contexts that are made between beginCapture() and
 *    endCapture() are known without a pointer from JavaScript, and nothing is used after its end.
 *
 *  - Custom extensions. Their callbacks run in every handshake, resumed ones included, which is
 *    what RFC 8472 section 4 wants: the result belongs to a connection, never to a session.
 *
 * JavaScript finds the result of its connection by the exported keying material (RFC 8471 section
 * 3.3), the value that is a secret of this connection and that signatures are checked against.
 *
 * The OpenSSL functions are looked up in the running process. Nothing but Node-API is needed to
 * compile this file, and the same binary runs in every Node that has them.
 *
 * Callbacks from OpenSSL run inside a handshake: they touch no JavaScript, and they do not throw.
 */

#define _GNU_SOURCE
#define NAPI_VERSION 8

#include <dlfcn.h>
#include <node_api.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- The part of OpenSSL that is used, with the values of its public headers ---- */

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;

enum {
  CRYPTO_EX_INDEX_SSL = 0,
  CRYPTO_EX_INDEX_SSL_CTX = 1,

  SSL_CTRL_GET_RI_SUPPORT = 76,
  SSL_CTRL_GET_EXTMS_SUPPORT = 122,

  SSL_AD_DECODE_ERROR = 50,
  SSL_AD_INTERNAL_ERROR = 80,
  SSL_AD_UNSUPPORTED_EXTENSION = 110,

  SSL_EXT_TLS_ONLY = 0x0001,
  SSL_EXT_TLS1_2_AND_BELOW_ONLY = 0x0010,
  SSL_EXT_CLIENT_HELLO = 0x0080,
  SSL_EXT_TLS1_2_SERVER_HELLO = 0x0100,
  SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS = 0x0400,

  TLS1_3_VERSION = 0x0304,

  TLSEXT_TYPE_extended_master_secret = 23,
  TLSEXT_TYPE_token_binding = 24,
};

#define SSL_OP_NO_EXTENDED_MASTER_SECRET ((uint64_t)1 << 0)
#define SSL_OP_NO_RENEGOTIATION ((uint64_t)1 << 30)

typedef void ex_callback(void *parent, void *pointer, void *data, int index, long argl, void *argp);
typedef int add_callback(SSL *ssl, unsigned int type, unsigned int context,
                         const unsigned char **out, size_t *out_length, void *certificate,
                         size_t chain_index, int *alert, void *argument);
typedef int parse_callback(SSL *ssl, unsigned int type, unsigned int context,
                           const unsigned char *in, size_t in_length, void *certificate,
                           size_t chain_index, int *alert, void *argument);

static int (*CRYPTO_get_ex_new_index)(int class_index, long argl, void *argp, ex_callback *on_new,
                                      void *on_dup, ex_callback *on_free);
static int (*ERR_pop_to_mark)(void);
static int (*ERR_set_mark)(void);
static int (*SSL_CTX_add_custom_ext)(SSL_CTX *context, unsigned int type, unsigned int flags,
                                     add_callback *add, void *free_added, void *add_argument,
                                     parse_callback *parse, void *parse_argument);
static int (*SSL_CTX_set_ex_data)(SSL_CTX *context, int index, void *data);
static uint64_t (*SSL_CTX_set_options)(SSL_CTX *context, uint64_t options);
static int (*SSL_client_hello_get0_ext)(SSL *ssl, unsigned int type, const unsigned char **out,
                                        size_t *out_length);
static long (*SSL_ctrl)(SSL *ssl, int command, long number, void *pointer);
static int (*SSL_export_keying_material)(SSL *ssl, unsigned char *out, size_t out_length,
                                         const char *label, size_t label_length,
                                         const unsigned char *context, size_t context_length,
                                         int use_context);
static void *(*SSL_get_ex_data)(const SSL *ssl, int index);
static uint64_t (*SSL_get_options)(const SSL *ssl);
static int (*SSL_in_init)(const SSL *ssl);
static int (*SSL_set_ex_data)(SSL *ssl, int index, void *data);
static int (*SSL_version)(const SSL *ssl);

#define SYMBOL(name) { #name, (void **)&name }
static const struct {
  const char *name;
  void **pointer;
} symbols[] = {
    SYMBOL(CRYPTO_get_ex_new_index),
    SYMBOL(ERR_pop_to_mark),
    SYMBOL(ERR_set_mark),
    SYMBOL(SSL_CTX_add_custom_ext),
    SYMBOL(SSL_CTX_set_ex_data),
    SYMBOL(SSL_CTX_set_options),
    SYMBOL(SSL_client_hello_get0_ext),
    SYMBOL(SSL_ctrl),
    SYMBOL(SSL_export_keying_material),
    SYMBOL(SSL_get_ex_data),
    SYMBOL(SSL_get_options),
    SYMBOL(SSL_in_init),
    SYMBOL(SSL_set_ex_data),
    SYMBOL(SSL_version),
};

/* ---- What is remembered ---- */

enum {
  VERSION_MAJOR = 1,
  VERSION_MINOR = 0,
  HEADER_LENGTH = 3, /* major, minor, length of the list */
  MOST_PARAMETERS = 8,
  EKM_LENGTH = 32,
  MOST_CAPTURED = 64,
  NOTHING_CHOSEN = -1,
  CHOSEN_UNSAFELY = -2,
};

typedef enum { SERVER, CLIENT } role_t;

/* Of an SSL_CTX: lives in its slot, dies with it. */
typedef struct {
  role_t role;
  size_t count;
  /* The extension_data a client offers; of a server, its own preferences in the same form. */
  unsigned char offer[HEADER_LENGTH + MOST_PARAMETERS];
} config_t;

/* Of an SSL: lives in its slot, dies with it. Those that negotiated form a list. */
typedef struct state {
  SSL *ssl;
  pthread_t thread;
  role_t role;
  int chosen;
  unsigned char answer[HEADER_LENGTH + 1];
  bool listed;
  struct state *previous;
  struct state *next;
} state_t;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *missing_symbol = NULL;
static int ssl_slot = -1;
static int context_slot = -1;

/* One list for all threads: whichever thread frees an SSL finds it. Each thread looks at its own. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static state_t *list = NULL;

static _Thread_local bool capturing = false;
static _Thread_local bool captured_too_many = false;
static _Thread_local size_t captured_count = 0;
static _Thread_local SSL_CTX *captured[MOST_CAPTURED];

static void list_insert(state_t *state) {
  pthread_mutex_lock(&list_lock);
  if (!state->listed) {
    state->listed = true;
    state->previous = NULL;
    state->next = list;
    if (list != NULL) list->previous = state;
    list = state;
  }
  pthread_mutex_unlock(&list_lock);
}

/* The lock must be held. */
static void list_unlink(state_t *state) {
  if (!state->listed) return;
  if (state->previous != NULL) state->previous->next = state->next;
  else list = state->next;
  if (state->next != NULL) state->next->previous = state->previous;
  state->listed = false;
}

static void list_remove(state_t *state) {
  pthread_mutex_lock(&list_lock);
  list_unlink(state);
  pthread_mutex_unlock(&list_lock);
}

/* ---- Slots ---- */

static void on_context_new(void *parent, void *pointer, void *data, int index, long argl,
                           void *argp) {
  (void)pointer, (void)data, (void)index, (void)argl, (void)argp;
  if (!capturing) return;
  if (captured_count == MOST_CAPTURED) {
    captured_too_many = true;
    return;
  }
  captured[captured_count++] = parent;
}

static void on_context_free(void *parent, void *pointer, void *data, int index, long argl,
                            void *argp) {
  (void)data, (void)index, (void)argl, (void)argp;
  free(pointer);
  for (size_t i = 0; i < captured_count; i++) {
    if (captured[i] == parent) captured[i] = NULL;
  }
}

static void on_ssl_free(void *parent, void *pointer, void *data, int index, long argl, void *argp) {
  (void)parent, (void)data, (void)index, (void)argl, (void)argp;
  state_t *state = pointer;
  if (state == NULL) return;
  list_remove(state);
  free(state);
}

/* The state of a handshake that begins, or begins again: nothing is chosen yet. */
static state_t *fresh_state(SSL *ssl, role_t role) {
  state_t *state = SSL_get_ex_data(ssl, ssl_slot);
  if (state == NULL) {
    state = calloc(1, sizeof *state);
    if (state == NULL) return NULL;
    if (SSL_set_ex_data(ssl, ssl_slot, state) != 1) {
      free(state);
      return NULL;
    }
  }
  list_remove(state);
  state->ssl = ssl;
  state->thread = pthread_self();
  state->role = role;
  state->chosen = NOTHING_CHOSEN;
  return state;
}

/* ---- The extension, as a server ---- */

static bool offers(const unsigned char *parameters, size_t count, unsigned char parameter) {
  return memchr(parameters, parameter, count) != NULL;
}

/* RFC 8472 section 3 item 3: not below TLS 1.3 without both of these. */
static bool connection_is_safe(SSL *ssl) {
  if (SSL_version(ssl) >= TLS1_3_VERSION) return true;
  const unsigned char *body;
  size_t length;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_extended_master_secret, &body, &length) != 1) {
    return false;
  }
  if ((SSL_get_options(ssl) & SSL_OP_NO_EXTENDED_MASTER_SECRET) != 0) return false;
  return SSL_ctrl(ssl, SSL_CTRL_GET_RI_SUPPORT, 0, NULL) == 1;
}

static int parse_client_hello(SSL *ssl, const unsigned char *in, size_t length, int *alert,
                              const config_t *config) {
  state_t *state = fresh_state(ssl, SERVER);
  if (state == NULL) {
    *alert = SSL_AD_INTERNAL_ERROR;
    return 0;
  }
  /* RFC 8472 section 2: two bytes of version, a list of at least one identifier, nothing else. */
  if (length <= HEADER_LENGTH || in[2] != length - HEADER_LENGTH) {
    *alert = SSL_AD_DECODE_ERROR;
    return 0;
  }
  /* Section 3 item 1: a version that is offered or lower. Those below 1.0 are drafts. */
  if (in[0] < VERSION_MAJOR) return 1;
  if (!connection_is_safe(ssl)) return 1;

  /* Section 2 has the client's list in its order of preference; the first that is known here. */
  const unsigned char *known = config->offer + HEADER_LENGTH;
  for (size_t i = HEADER_LENGTH; i < length; i++) {
    if (offers(known, config->count, in[i])) {
      state->chosen = in[i];
      return 1;
    }
  }
  return 1;
}

static int add_server_answer(SSL *ssl, const unsigned char **out, size_t *out_length) {
  state_t *state = SSL_get_ex_data(ssl, ssl_slot);
  if (state == NULL || state->chosen < 0) return 0;
  /* Section 3: the lower of the two versions, and exactly one identifier. */
  state->answer[0] = VERSION_MAJOR;
  state->answer[1] = VERSION_MINOR;
  state->answer[2] = 1;
  state->answer[3] = (unsigned char)state->chosen;
  *out = state->answer;
  *out_length = sizeof state->answer;
  list_insert(state);
  return 1;
}

/* ---- The extension, as a client ---- */

static int add_client_offer(SSL *ssl, const unsigned char **out, size_t *out_length, int *alert,
                            const config_t *config) {
  if (fresh_state(ssl, CLIENT) == NULL) {
    *alert = SSL_AD_INTERNAL_ERROR;
    return -1;
  }
  *out = config->offer;
  *out_length = HEADER_LENGTH + config->count;
  return 1;
}

static int parse_server_answer(SSL *ssl, const unsigned char *in, size_t length, int *alert,
                               const config_t *config) {
  state_t *state = SSL_get_ex_data(ssl, ssl_slot);
  if (state == NULL) {
    *alert = SSL_AD_INTERNAL_ERROR;
    return 0;
  }
  if (length <= HEADER_LENGTH || in[2] != length - HEADER_LENGTH) {
    *alert = SSL_AD_DECODE_ERROR;
    return 0;
  }
  /* RFC 8472 section 4: what ends the handshake with unsupported_extension. */
  bool higher = in[0] > VERSION_MAJOR || (in[0] == VERSION_MAJOR && in[1] > VERSION_MINOR);
  bool several = in[2] != 1;
  bool not_offered = !offers(config->offer + HEADER_LENGTH, config->count, in[HEADER_LENGTH]);
  bool no_secure_renegotiation =
      SSL_version(ssl) < TLS1_3_VERSION && SSL_ctrl(ssl, SSL_CTRL_GET_RI_SUPPORT, 0, NULL) != 1;
  if (higher || several || not_offered || no_secure_renegotiation) {
    *alert = SSL_AD_UNSUPPORTED_EXTENSION;
    return 0;
  }
  /* A lower version is no error: the connection goes on without Token Binding. */
  if (in[0] < VERSION_MAJOR) return 1;

  state->chosen = in[HEADER_LENGTH];
  list_insert(state);
  return 1;
}

/* ---- What OpenSSL calls ---- */

static int on_parse(SSL *ssl, unsigned int type, unsigned int context, const unsigned char *in,
                    size_t length, void *certificate, size_t chain_index, int *alert,
                    void *argument) {
  (void)type, (void)certificate, (void)chain_index;
  const config_t *config = argument;
  if (context == SSL_EXT_CLIENT_HELLO) return parse_client_hello(ssl, in, length, alert, config);
  return parse_server_answer(ssl, in, length, alert, config);
}

static int on_add(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
                  size_t *out_length, void *certificate, size_t chain_index, int *alert,
                  void *argument) {
  (void)type, (void)certificate, (void)chain_index;
  const config_t *config = argument;
  if (context != SSL_EXT_CLIENT_HELLO) return add_server_answer(ssl, out, out_length);
  /* A context that was equipped as a server's and is used by a client offers nothing. */
  if (config->role != CLIENT) return 0;
  return add_client_offer(ssl, out, out_length, alert, config);
}

static bool equip_context(SSL_CTX *context, const config_t *template, bool tls13) {
  config_t *config = malloc(sizeof *config);
  if (config == NULL) return false;
  *config = *template;

  unsigned int flags = SSL_EXT_TLS_ONLY | SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO;
  /* RFC 8472 ends at TLS 1.2; draft-ietf-tokbind-tls13 moves the answer, and was never an RFC. */
  flags |= tls13 ? SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS : SSL_EXT_TLS1_2_AND_BELOW_ONLY;

  /* In the slot first: from then on the context frees it, also when the next call fails. */
  if (SSL_CTX_set_ex_data(context, context_slot, config) != 1) {
    free(config);
    return false;
  }
  if (SSL_CTX_add_custom_ext(context, TLSEXT_TYPE_token_binding, flags, on_add, NULL, config,
                             on_parse, config) != 1) {
    return false;
  }
  /* RFC 8471 section 3.3: renegotiation would change the keying material under a connection. */
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
  return true;
}

/* ---- What JavaScript calls ---- */

static napi_value throw(napi_env env, const char *message) {
  napi_throw_error(env, "ERR_TOKEN_BINDING_NATIVE", message);
  return NULL;
}

static napi_value int_value(napi_env env, int32_t number) {
  napi_value value = NULL;
  napi_create_int32(env, number, &value);
  return value;
}

/* beginCapture(): from here on, contexts made on this thread are noted. */
static napi_value begin_capture(napi_env env, napi_callback_info info) {
  (void)info;
  if (capturing) return throw(env, "equip() was called inside equip()");
  capturing = true;
  captured_too_many = false;
  captured_count = 0;
  return NULL;
}

/* cancelCapture(): forget them. */
static napi_value cancel_capture(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
  capturing = false;
  captured_count = 0;
  return NULL;
}

/* endCapture(isClient, tls13, parameters: Uint8Array): equips them and tells how many. */
static napi_value end_capture(napi_env env, napi_callback_info info) {
  size_t argument_count = 3;
  napi_value arguments[3];
  bool client;
  bool tls13;
  napi_typedarray_type type;
  size_t length;
  void *bytes;

  size_t count = captured_count;
  capturing = false;
  captured_count = 0;

  if (napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL) != napi_ok ||
      argument_count != 3 || napi_get_value_bool(env, arguments[0], &client) != napi_ok ||
      napi_get_value_bool(env, arguments[1], &tls13) != napi_ok ||
      napi_get_typedarray_info(env, arguments[2], &type, &length, &bytes, NULL, NULL) != napi_ok ||
      type != napi_uint8_array || length < 1 || length > MOST_PARAMETERS) {
    return throw(env, "endCapture(isClient, tls13, parameters) was called with something else");
  }
  if (captured_too_many) return throw(env, "equip() saw more than 64 TLS contexts");

  config_t template = {.role = client ? CLIENT : SERVER, .count = length};
  template.offer[0] = VERSION_MAJOR;
  template.offer[1] = VERSION_MINOR;
  template.offer[2] = (unsigned char)length;
  memcpy(template.offer + HEADER_LENGTH, bytes, length);

  int32_t equipped = 0;
  for (size_t i = 0; i < count; i++) {
    if (captured[i] == NULL) continue;
    if (!equip_context(captured[i], &template, tls13)) {
      return throw(env, "OpenSSL refused the token_binding extension for a TLS context");
    }
    equipped += 1;
  }
  return int_value(env, equipped);
}

static bool has_ekm(SSL *ssl, const unsigned char *wanted) {
  static const char label[] = "EXPORTER-Token-Binding";
  unsigned char ekm[EKM_LENGTH];
  /* A connection that has ended exports nothing; its error is nobody else's. */
  ERR_set_mark();
  int exported =
      SSL_export_keying_material(ssl, ekm, sizeof ekm, label, sizeof label - 1, NULL, 0, 0);
  ERR_pop_to_mark();
  return exported == 1 && memcmp(ekm, wanted, sizeof ekm) == 0;
}

/* RFC 8472 section 4: below TLS 1.3 a client goes on only with the extended master secret. */
static int32_t result_of(const state_t *state) {
  if (state->role == CLIENT && SSL_version(state->ssl) < TLS1_3_VERSION &&
      SSL_ctrl(state->ssl, SSL_CTRL_GET_EXTMS_SUPPORT, 0, NULL) != 1) {
    return CHOSEN_UNSAFELY;
  }
  return state->chosen;
}

/*
 * take(isClient, ekm: Uint8Array): the key parameters that the connection with this keying material
 * has negotiated, once; -1 for nothing; -2 for a server that chose without the extended master
 * secret. The keying material is that of both ends, which may both be in this thread.
 */
static napi_value take(napi_env env, napi_callback_info info) {
  size_t argument_count = 2;
  napi_value arguments[2];
  bool client;
  napi_typedarray_type type;
  size_t length;
  void *wanted;

  if (napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL) != napi_ok ||
      argument_count != 2 || napi_get_value_bool(env, arguments[0], &client) != napi_ok ||
      napi_get_typedarray_info(env, arguments[1], &type, &length, &wanted, NULL, NULL) != napi_ok ||
      type != napi_uint8_array || length != EKM_LENGTH) {
    return throw(env, "take(isClient, ekm) was called with something else");
  }

  int32_t result = NOTHING_CHOSEN;
  pthread_mutex_lock(&list_lock);
  for (state_t *state = list; state != NULL; state = state->next) {
    /* An SSL belongs to its thread; one that is still shaking hands has no keying material. */
    if (!pthread_equal(state->thread, pthread_self()) || SSL_in_init(state->ssl)) continue;
    if (state->role != (client ? CLIENT : SERVER)) continue;
    if (!has_ekm(state->ssl, wanted)) continue;
    result = result_of(state);
    list_unlink(state);
    break;
  }
  pthread_mutex_unlock(&list_lock);
  return int_value(env, result);
}

/* waiting(): how many connections have negotiated and were not taken; for tests. */
static napi_value waiting(napi_env env, napi_callback_info info) {
  (void)info;
  int32_t count = 0;
  pthread_mutex_lock(&list_lock);
  for (const state_t *state = list; state != NULL; state = state->next) count += 1;
  pthread_mutex_unlock(&list_lock);
  return int_value(env, count);
}

/* ---- Start ---- */

static void start(void) {
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
    *symbols[i].pointer = dlsym(RTLD_DEFAULT, symbols[i].name);
    if (*symbols[i].pointer == NULL) {
      missing_symbol = symbols[i].name;
      return;
    }
  }
  ssl_slot = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, NULL, NULL, on_ssl_free);
  context_slot = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL, on_context_new, NULL,
                                         on_context_free);
}

NAPI_MODULE_INIT() {
  pthread_once(&once, start);
  if (missing_symbol != NULL) {
    char message[128] = "this Node does not export the OpenSSL function ";
    strncat(message, missing_symbol, sizeof message - strlen(message) - 1);
    return throw(env, message);
  }
  if (ssl_slot < 0 || context_slot < 0) return throw(env, "OpenSSL has no application data slots");

  const napi_property_descriptor functions[] = {
      {"beginCapture", NULL, begin_capture, NULL, NULL, NULL, napi_enumerable, NULL},
      {"cancelCapture", NULL, cancel_capture, NULL, NULL, NULL, napi_enumerable, NULL},
      {"endCapture", NULL, end_capture, NULL, NULL, NULL, napi_enumerable, NULL},
      {"take", NULL, take, NULL, NULL, NULL, napi_enumerable, NULL},
      {"waiting", NULL, waiting, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  size_t count = sizeof functions / sizeof *functions;
  if (napi_define_properties(env, exports, count, functions) != napi_ok) return NULL;
  return exports;
}
