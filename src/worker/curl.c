/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl brings a TLS stack, Kerberos, LDAP and SSH: thirty libraries, 3 to 4 ms at each start,
 * also of the workers that unpack, one for each layer, which speak to nobody. So it is not linked
 * with. By its file's name, which stands for its interface, it is found where the linker would.
 */

#include "worker/curl.h"

#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#define LIBRARY "libcurl.so.4"

static struct curl_api api;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char failure[256];

static void *find(void *library, const char *name)
{
	void *f = dlsym(library, name);

	if (!f)
		snprintf(failure, sizeof(failure), "%s has no %s", LIBRARY, name);
	return f;
}

static void load(void)
{
	/* All of its symbols at once: later the sandbox forbids to read files. */
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		const char *why = dlerror();

		snprintf(failure, sizeof(failure), "%s", why ? why : LIBRARY);
		return;
	}
#define FIND(name) api.p_##name = (__typeof__(api.p_##name))find(library, #name);
	CURL_FUNCTIONS(FIND)
#undef FIND
}

int curl_load(struct error *err)
{
	pthread_once(&once, load);
	return failure[0] ? error_set(err, ERROR_UNAVAILABLE, "load libcurl: %s", failure) : 0;
}

const struct curl_api *curl_api(void)
{
	int loaded = curl_load(NULL);

	assert(loaded == 0);
	return &api;
}
