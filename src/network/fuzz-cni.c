/* SPDX-License-Identifier: Apache-2.0 */
/* What plugins and files say: lists, results, records, failures. What was accepted survives being
 * written and read again. */
#include "base/mem.h"
#include "network/cni-internal.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_list(const char *text, size_t size, bool single)
{
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT, again = CNI_LIST_INIT;
	autoerror struct error err = ERROR_INIT;

	if (cni_list_parse(text, size, single, &l, &err) < 0) {
		assert(err.msg);
		return;
	}
	for (size_t i = 0; i < l.n; i++) {
		const struct cni_builtin *b = cni_builtin_find(l.v[i].type);

		if (b && !str_equal(b->type, "firewall"))
			b->supports(l.v[i].config);
	}
	if (l.n == 0)
		return;
	autofree char *written = cni_list_format(&l);

	assert(cni_list_parse(written, strlen(written), false, &again, NULL) == 0);
	assert(again.n == l.n && again.version == l.version);
}

static void fuzz_result(const char *text, size_t size)
{
	autojson struct json *j = json_parse(text, size, 1 << 16, NULL);
	autocniinfo struct cni_info i = CNI_INFO_INIT, again = CNI_INFO_INIT;
	autojson struct json *written = NULL;

	if (!j || cni_info_parse(j, &i, NULL) < 0)
		return;
	if (i.version < CNI_0_3_0)
		i.version = CNI_0_3_0;
	written = cni_info_encode(&i);
	assert(cni_info_parse(written, &again, NULL) == 0);
	assert(again.ips.n == i.ips.n && again.routes.n == i.routes.n);
}

static void fuzz_record(const char *text, size_t size)
{
	autocnirecord struct cni_record r = CNI_RECORD_INIT, again = CNI_RECORD_INIT;

	if (cni_record_parse(text, size, &r, NULL) < 0)
		return;
	autofree char *written = cni_record_format(&r);

	assert(cni_record_parse(written, strlen(written), &again, NULL) == 0);
	assert(str_equal(r.config, again.config) && strv_equal(&r.args, &again.args));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *text = xstrndup((const char *)data, size);
	autoerror struct error err = ERROR_INIT;
	struct cni_net n;
	uint64_t quantity;

	fuzz_list((const char *)data, size, /* single= */ false);
	fuzz_list((const char *)data, size, /* single= */ true);
	fuzz_result((const char *)data, size);
	fuzz_record((const char *)data, size);
	assert(cni_failure((const char *)data, size, text, "exit status 1", &err) < 0 && err.msg);
	cni_quantity_parse(text, &quantity);
	if (cni_net_parse(text, &n) == 0) {
		char out[CNI_NET_STRING_MAX];
		struct cni_net same;

		cni_net_format(&n, out);
		assert(cni_net_parse(out, &same) == 0 && same.prefix == n.prefix &&
		       ip_compare(&same.addr, &n.addr) == 0);
	}
	return 0;
}
