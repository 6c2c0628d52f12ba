/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/grpc-frame.h"

#include "base/parse.h"
#include "base/time.h"
#include "rpc/protobuf-wire.h"

#include <string.h>

void grpc_deframer_init(struct grpc_deframer *d)
{
	*d = (struct grpc_deframer){ .message = BUF_INIT(GRPC_MESSAGE_MAX) };
}

void grpc_deframer_done(struct grpc_deframer *d)
{
	buf_done(&d->message);
}

static size_t length(const struct grpc_deframer *d)
{
	return (size_t)d->prefix[1] << 24 | (size_t)d->prefix[2] << 16 | (size_t)d->prefix[3] << 8 |
	       d->prefix[4];
}

static int check_prefix(const struct grpc_deframer *d, struct error *err)
{
	if (d->prefix[0] == 1)
		return error_set(err, ERROR_INTERNAL,
				 "grpc: compressed flag set with identity or empty encoding");
	if (d->prefix[0] != 0)
		return error_set(err, ERROR_INTERNAL, "grpc: received unexpected payload format %d",
				 d->prefix[0]);
	if (length(d) > GRPC_MESSAGE_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "grpc: received message larger than max (%zu vs. %d)", length(d),
				 GRPC_MESSAGE_MAX);
	return 0;
}

enum grpc_frame_result grpc_deframer_feed(struct grpc_deframer *d, const uint8_t **p, size_t *n,
					  struct error *err)
{
	while (*n > 0 && d->n_prefix < GRPC_PREFIX) {
		d->prefix[d->n_prefix++] = *(*p)++;
		--*n;
		if (d->n_prefix == GRPC_PREFIX && check_prefix(d, err) < 0)
			return GRPC_FRAME_ERROR;
	}
	if (d->n_prefix < GRPC_PREFIX)
		return GRPC_FRAME_MORE;
	size_t take = length(d) - d->message.len;
	if (take > *n)
		take = *n;
	buf_append(&d->message, *p, take);
	*p += take;
	*n -= take;
	if (d->message.len < length(d))
		return GRPC_FRAME_MORE;
	d->n_prefix = 0;
	return GRPC_FRAME_MESSAGE;
}

bool grpc_deframer_is_empty(const struct grpc_deframer *d)
{
	return d->n_prefix == 0;
}

int grpc_frame_prefix(struct buf *out, size_t n)
{
	uint8_t prefix[GRPC_PREFIX] = { 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16),
					(uint8_t)(n >> 8), (uint8_t)n };

	if (n > UINT32_MAX)
		return -ENOBUFS;
	int r = buf_reserve(out, sizeof(prefix) + n);
	return r < 0 ? r : buf_append(out, prefix, sizeof(prefix));
}

int grpc_frame(struct buf *out, const void *p, size_t n)
{
	int r = grpc_frame_prefix(out, n);

	return r < 0 ? r : buf_append(out, p, n);
}

int grpc_timeout_parse(const char *s, int64_t *ret_ns)
{
	static const struct {
		char unit;
		int64_t ns;
	} units[] = {
		{ 'H', 3600 * NSEC_PER_SEC },
		{ 'M', 60 * NSEC_PER_SEC },
		{ 'S', NSEC_PER_SEC },
		{ 'm', NSEC_PER_MSEC },
		{ 'u', 1000 },
		{ 'n', 1 },
	};
	size_t digits = strspn(s, "0123456789");
	char number[9] = "";
	int64_t value;

	if (digits == 0 || digits > 8 || s[digits] == '\0' || s[digits + 1] != '\0')
		return -EINVAL;
	memcpy(number, s, digits);
	if (parse_int64(number, &value) < 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (units[i].unit == s[digits]) {
			/* 8 digits of hours are 360 million years more than int64_t has. */
			*ret_ns = value > INT64_MAX / units[i].ns ? INT64_MAX : value * units[i].ns;
			return 0;
		}
	}
	return -EINVAL;
}

void grpc_status_message_encode(const char *s, struct buf *out)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t left = strlen(s), n; left > 0; p += n, left -= n) {
		n = utf8_sequence(p, left);
		if (n == 0) {
			n = 1;
			if (buf_putc(out, '?') < 0)
				return;
		} else if (*p >= 0x20 && *p <= 0x7e && *p != '%') {
			if (buf_putc(out, (char)*p) < 0)
				return;
		} else {
			if (out->len + 3 * n > out->max)
				return;
			for (size_t i = 0; i < n; i++)
				buf_printf(out, "%%%02X", p[i]);
		}
	}
}
