#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which servers to ask for a registry: containerd's hosts.toml and Docker's certificate directories
 * below certs.d roots (images.md 1.8), or what the name itself says. Read anew for each transfer.
 */

#include "base/error.h"
#include "base/strv.h"

enum { HOST_PULL = 1 << 0, HOST_RESOLVE = 1 << 1, HOST_PUSH = 1 << 2, HOST_ALL = 7 };

struct registry_host {
	char *url;  /* "https://host:port/v2" */
	char *host; /* "host:port" as in the URL */
	unsigned can;
	bool skip_verify;
	struct strv ca;			/* files */
	char *client_cert, *client_key; /* files */
	struct strv header_names, header_values;
	int64_t dial_timeout; /* ns, 0: default */
};

struct registry_hosts {
	struct registry_host *v;
	size_t n;
};

#define REGISTRY_HOSTS_INIT ((struct registry_hosts){ 0 })
#define HOSTS_TOML_MAX (1 << 20)

void registry_hosts_done(struct registry_hosts *h);

/* What the name says: docker.io is registry-1.docker.io; loopback is plain http, then unverified
 * https; members of the insecure list (host, host:port, CIDR) the other way round. Appends. */
void hosts_default(const char *domain, const struct strv *insecure, struct registry_hosts *ret);
/* A hosts.toml; relative files are below dir. Sans-IO. INVALID_ARGUMENT names the key. Appends. */
int hosts_parse(const char *text, size_t len, const char *domain, const char *dir,
		const struct strv *insecure, struct registry_hosts *ret, struct error *err);
/* All of it. A file that cannot be understood is an error, not a mirror less. */
int hosts_load(const struct strv *roots, const char *domain, const struct strv *insecure,
	       struct registry_hosts *ret, struct error *err);
/* Is host[:port] in the list? */
bool hosts_insecure(const char *host, const struct strv *insecure);

#define autohosts CLEANUP(registry_hosts_done)
