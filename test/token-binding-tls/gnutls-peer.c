/*
 * The other end of Token Binding on another TLS library, GnuTLS: what it computes owes nothing to
 * OpenSSL, to Node, or to the code under test.
 *
 *   gnutls-peer client PORT PRIORITIES OFFER [resume]
 *   gnutls-peer server PRIORITIES ANSWER CERTIFICATE KEY
 *
 * OFFER and ANSWER are extension_data in hexadecimal. One line of JSON goes out per connection.
 */

#include <arpa/inet.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TOKEN_BINDING = 24, ID_LENGTH = 68, SIGNATURE_LENGTH = 64, MESSAGE_LENGTH = 139 };

static unsigned char to_send[64];
static size_t to_send_length;
static char received[256];
static bool was_received;

static void check(int result, const char *what) {
  if (result >= 0) return;
  printf("{\"failed\":\"%s\",\"error\":\"%s\"}\n", what, gnutls_strerror_name(result));
  exit(1);
}

static void from_hex(const char *text) {
  to_send_length = strlen(text) / 2;
  for (size_t i = 0; i < to_send_length; i++) sscanf(text + 2 * i, "%2hhx", &to_send[i]);
}

static void to_hex(char *out, const unsigned char *bytes, size_t length) {
  out[0] = '\0';
  for (size_t i = 0; i < length; i++) sprintf(out + 2 * i, "%02x", bytes[i]);
}

static int on_receive(gnutls_session_t session, const unsigned char *data, size_t length) {
  (void)session;
  was_received = true;
  to_hex(received, data, length < 100 ? length : 100);
  return 0;
}

static int on_send(gnutls_session_t session, gnutls_buffer_t out) {
  (void)session;
  check(gnutls_buffer_append_data(out, to_send, to_send_length), "append");
  return (int)to_send_length;
}

static gnutls_session_t make_session(unsigned int role, const char *priorities,
                                     gnutls_certificate_credentials_t credentials, int socket) {
  gnutls_session_t session;
  const char *where;
  check(gnutls_init(&session, role), "init");
  check(gnutls_priority_set_direct(session, priorities, &where), "priorities");
  check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), "credentials");
  if (to_send_length > 0) {
    /* "Mandatory" is what GnuTLS calls an extension that it also reads on a resumed session. */
    check(gnutls_session_ext_register(session, "token_binding", TOKEN_BINDING, GNUTLS_EXT_MANDATORY,
                                      on_receive, on_send, NULL, NULL, NULL,
                                      GNUTLS_EXT_FLAG_TLS | GNUTLS_EXT_FLAG_CLIENT_HELLO |
                                          GNUTLS_EXT_FLAG_TLS12_SERVER_HELLO | GNUTLS_EXT_FLAG_EE),
          "extension");
  }
  gnutls_transport_set_int(session, socket);
  return session;
}

static void shake_hands(gnutls_session_t session) {
  int result;
  was_received = false;
  do {
    result = gnutls_handshake(session);
  } while (result < 0 && gnutls_error_is_fatal(result) == 0);
  if (result == GNUTLS_E_FATAL_ALERT_RECEIVED) {
    printf("{\"failed\":\"handshake\",\"alert\":%d}\n", gnutls_alert_get(session));
    exit(1);
  }
  check(result, "handshake");
}

/* RFC 8471 section 3.3: without a context, which GnuTLS knows as a null pointer. */
static void export_ekm(gnutls_session_t session, unsigned char ekm[32]) {
  static const char label[] = "EXPORTER-Token-Binding";
  check(gnutls_prf_rfc5705(session, sizeof label - 1, label, 0, NULL, 32, (char *)ekm), "export");
}

static void print_facts(gnutls_session_t session) {
  unsigned char ekm[32];
  char ekm_hex[65];
  unsigned int flags = gnutls_session_get_flags(session);
  export_ekm(session, ekm);
  to_hex(ekm_hex, ekm, sizeof ekm);
  printf("{\"protocol\":\"%s\",\"extension\":%s%s%s,\"extendedMasterSecret\":%s,"
         "\"safeRenegotiation\":%s,\"resumed\":%s,\"ekm\":\"%s\"",
         gnutls_protocol_get_name(gnutls_protocol_get_version(session)), was_received ? "\"" : "",
         was_received ? received : "null", was_received ? "\"" : "",
         (flags & GNUTLS_SFLAGS_EXT_MASTER_SECRET) ? "true" : "false",
         (flags & GNUTLS_SFLAGS_SAFE_RENEGOTIATION) ? "true" : "false",
         gnutls_session_is_resumed(session) ? "true" : "false", ekm_hex);
}

/* ---- The client ---- */

/* A coordinate as 32 bytes: GnuTLS leaves out leading zeros, or adds one. */
static void copy_fixed(unsigned char *out, const gnutls_datum_t *number) {
  const unsigned char *data = number->data;
  size_t length = number->size;
  while (length > 32) data++, length--;
  memset(out, 0, 32);
  memcpy(out + 32 - length, data, length);
}

/* RFC 8471 section 3: a message with one provided binding of an EC P-256 key, and no extensions. */
static void sign_message(gnutls_session_t session, gnutls_privkey_t key,
                         unsigned char out[MESSAGE_LENGTH]) {
  gnutls_ecc_curve_t curve;
  gnutls_datum_t x, y, k, signature, r, s;
  unsigned char signed_bytes[34] = {0, 2};
  gnutls_datum_t to_sign = {signed_bytes, sizeof signed_bytes};

  export_ekm(session, signed_bytes + 2);
  check(gnutls_privkey_export_ecc_raw(key, &curve, &x, &y, &k), "key");
  check(gnutls_privkey_sign_data(key, GNUTLS_DIG_SHA256, 0, &to_sign, &signature), "sign");
  check(gnutls_decode_rs_value(&signature, &r, &s), "signature");

  static const unsigned char head[] = {0, MESSAGE_LENGTH - 2, 0, 2, 0, 65, 64};
  unsigned char *at = out;
  memcpy(at, head, sizeof head), at += sizeof head;
  copy_fixed(at, &x), at += 32;
  copy_fixed(at, &y), at += 32;
  *at++ = 0, *at++ = SIGNATURE_LENGTH;
  copy_fixed(at, &r), at += 32;
  copy_fixed(at, &s), at += 32;
  *at++ = 0, *at++ = 0;
}

static void base64url(char *out, const unsigned char *bytes, size_t length) {
  gnutls_datum_t in = {(unsigned char *)bytes, (unsigned int)length};
  gnutls_datum_t text;
  check(gnutls_base64_encode2(&in, &text), "base64");
  size_t size = text.size;
  while (size > 0 && text.data[size - 1] == '=') size--;
  for (size_t i = 0; i < size; i++) {
    char c = (char)text.data[i];
    out[i] = c == '+' ? '-' : c == '/' ? '_' : c;
  }
  out[size] = '\0';
}

static int connect_to(int port) {
  int result = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(result, (struct sockaddr *)&address, sizeof address) != 0) exit(2);
  return result;
}

static void run_client(int port, const char *priorities, bool resume) {
  gnutls_certificate_credentials_t credentials;
  gnutls_privkey_t key;
  gnutls_datum_t saved = {NULL, 0};
  check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
  check(gnutls_privkey_init(&key), "key");
  check(gnutls_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                0),
        "generate");

  for (int turn = 0; turn < (resume ? 2 : 1); turn++) {
    int socket = connect_to(port);
    gnutls_session_t session = make_session(GNUTLS_CLIENT, priorities, credentials, socket);
    check(gnutls_server_name_set(session, GNUTLS_NAME_DNS, "localhost", 9), "name");
    if (saved.data != NULL) check(gnutls_session_set_data(session, saved.data, saved.size), "resume");
    shake_hands(session);
    print_facts(session);

    unsigned char message[MESSAGE_LENGTH];
    char header[256], id[128], request[512], response[4096];
    sign_message(session, key, message);
    base64url(header, message, sizeof message);
    base64url(id, message + 3, ID_LENGTH);
    int length = snprintf(request, sizeof request,
                          "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Token-Binding: %s\r\n"
                          "Connection: close\r\n\r\n",
                          was_received ? header : "none");
    check((int)gnutls_record_send(session, request, (size_t)length), "send");

    size_t filled = 0;
    ssize_t got;
    while (filled < sizeof response - 1 &&
           ((got = gnutls_record_recv(session, response + filled, sizeof response - 1 - filled)) > 0 ||
            got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED)) {
      if (got > 0) filled += (size_t)got;
    }
    response[filled] = '\0';
    const char *body = strchr(response, '{');
    const char *end = strrchr(response, '}');
    if (body == NULL || end == NULL) body = "null", end = body + 3;
    printf(",\"id\":\"%s\",\"response\":%.*s}\n", id, (int)(end - body + 1), body);

    check(gnutls_session_get_data2(session, &saved), "save");
    gnutls_deinit(session);
    close(socket);
  }
}

/* ---- The server: it answers whatever it was told to, allowed or not ---- */

static void run_server(const char *priorities, const char *certificate, const char *key) {
  gnutls_certificate_credentials_t credentials;
  check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
  check(gnutls_certificate_set_x509_key_file(credentials, certificate, key, GNUTLS_X509_FMT_PEM),
        "certificate");

  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) exit(2);
  if (listen(listener, 1) != 0) exit(2);
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);

  int socket = accept(listener, NULL, NULL);
  gnutls_session_t session = make_session(GNUTLS_SERVER, priorities, credentials, socket);
  shake_hands(session);
  print_facts(session);

  char request[4096];
  ssize_t got = gnutls_record_recv(session, request, sizeof request - 1);
  request[got > 0 ? got : 0] = '\0';
  const char *header = strstr(request, "Sec-Token-Binding: ");
  const char *value = header == NULL ? "" : header + strlen("Sec-Token-Binding: ");
  printf(",\"requested\":%s,\"message\":\"%.*s\"}\n", got > 0 ? "true" : "false",
         (int)strcspn(value, "\r"), value);
  if (got > 0) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    check((int)gnutls_record_send(session, answer, sizeof answer - 1), "send");
    gnutls_bye(session, GNUTLS_SHUT_WR);
  }
  gnutls_deinit(session);
  close(socket);
}

int main(int count, char **arguments) {
  if (count >= 5 && strcmp(arguments[1], "client") == 0) {
    from_hex(arguments[4]);
    run_client(atoi(arguments[2]), arguments[3], count > 5);
    return 0;
  }
  if (count == 6 && strcmp(arguments[1], "server") == 0) {
    from_hex(arguments[3]);
    run_server(arguments[2], arguments[4], arguments[5]);
    return 0;
  }
  fprintf(stderr, "usage: see the head of gnutls-peer.c\n");
  return 2;
}
