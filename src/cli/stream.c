/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stream.h"

#include "base/mem.h"
#include "base/strv.h"

#include <string.h>

int demux_feed(struct demux *d, const char *data, size_t len, size_t *ret_used,
	       enum stream_type *ret_type, const char **ret, size_t *ret_len, struct error *err)
{
	size_t n;

	*ret_used = 0;
	*ret_len = 0;
	*ret = NULL;
	while (!d->left) {
		n = MIN(sizeof(d->head) - d->have, len - *ret_used);
		memcpy(d->head + d->have, data + *ret_used, n);
		d->have += n;
		*ret_used += n;
		if (d->have < sizeof(d->head))
			return 0;
		if (d->head[0] > STREAM_SYSTEM_ERROR || d->head[1] || d->head[2] || d->head[3])
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "unrecognized input header: %d", d->head[0]);
		d->left = ((size_t)d->head[4] << 24) | ((size_t)d->head[5] << 16) |
			  ((size_t)d->head[6] << 8) | d->head[7];
		if (d->left > STREAM_FRAME_MAX)
			return error_set(err, ERROR_INVALID_ARGUMENT, "stream frame too large");
		if (!d->left)
			d->have = 0;
	}
	*ret_type = d->head[0];
	*ret = data + *ret_used;
	*ret_len = MIN(d->left, len - *ret_used);
	*ret_used += *ret_len;
	d->left -= *ret_len;
	if (!d->left)
		d->have = 0;
	return 0;
}

static int parse_key(const char *s, unsigned char *ret)
{
	const char *c = s + 5;

	if (s[0] && !s[1]) {
		*ret = (unsigned char)s[0];
		return 0;
	}
	if (!str_has_prefix(s, "ctrl-") || !c[0] || c[1])
		return -EINVAL;
	if (*c >= 'a' && *c <= 'z')
		*ret = (unsigned char)(*c - 'a' + 1);
	else if (*c == '@')
		*ret = 0;
	else if (strchr("[\\]^_", *c))
		*ret = (unsigned char)(*c - '[' + 27);
	else
		return -EINVAL;
	return 0;
}

int detach_keys_parse(const char *s, struct detach_keys *ret, struct error *err)
{
	autostrv struct strv keys = STRV_INIT;

	*ret = (struct detach_keys){ 0 };
	strv_split(&keys, str_empty(s) ? "ctrl-p,ctrl-q" : s, ",");
	for (size_t i = 0; i < keys.n; i++) {
		if (ret->n == DETACH_KEYS_MAX || parse_key(keys.v[i], &ret->keys[ret->n]) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "invalid detach keys (%s): Unknown character: '%s'", s,
					 keys.v[i]);
		ret->n++;
	}
	return 0;
}

size_t detach_keys_filter(struct detach_keys *d, const char *in, size_t n, char *out,
			  bool *ret_detached)
{
	size_t len = 0;

	*ret_detached = false;
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)in[i] == d->keys[d->matched]) {
			if (++d->matched == d->n) {
				*ret_detached = true;
				d->matched = 0;
				return len;
			}
			continue;
		}
		memcpy(out + len, d->keys, d->matched);
		len += d->matched;
		d->matched = 0;
		if ((unsigned char)in[i] == d->keys[0])
			d->matched = 1;
		else
			out[len++] = in[i];
	}
	return len;
}
