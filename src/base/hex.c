/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"

#include <string.h>

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* p may lie n bytes into out: byte i is read before digits 2i and 2i + 1 are written. */
void hex_encode(const void *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *in = p;

	for (size_t i = 0; i < n; i++) {
		unsigned char byte = in[i];

		out[2 * i] = digits[byte >> 4];
		out[2 * i + 1] = digits[byte & 15];
	}
	out[2 * n] = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *s, void *out, size_t n)
{
	unsigned char *p = out;

	if (strnlen(s, 2 * n + 1) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int high = hex_value(s[2 * i]), low = hex_value(s[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		p[i] = (unsigned char)(high << 4 | low);
	}
	return 0;
}

static int encode(const void *p, size_t n, struct buf *out, const char *alphabet, bool pad)
{
	const unsigned char *in = p;
	int r = buf_reserve(out, pad ? (n + 2) / 3 * 4 : n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0));

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i += 3) {
		size_t have = MIN(n - i, (size_t)3);
		uint32_t v = (uint32_t)in[i] << 16;
		char quad[4] = "====";

		if (have > 1)
			v |= (uint32_t)in[i + 1] << 8;
		if (have > 2)
			v |= in[i + 2];
		for (size_t k = 0; k <= have; k++)
			quad[k] = alphabet[v >> (18 - 6 * k) & 63];
		r = buf_append(out, quad, pad ? 4 : have + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

int base64_encode(const void *p, size_t n, struct buf *out)
{
	return encode(p, n, out, standard, /* pad= */ true);
}

int base64url_encode(const void *p, size_t n, struct buf *out)
{
	return encode(p, n, out, url_safe, /* pad= */ false);
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}

int base64_decode(const char *s, size_t n, struct buf *out)
{
	size_t padding = 0;

	while (padding < 2 && n > 0 && s[n - 1] == '=') {
		n--;
		padding++;
	}
	if (n % 4 == 1 || (padding && (n + padding) % 4))
		return -EINVAL;
	int r = buf_reserve(out, n / 4 * 3 + n % 4 * 3 / 4);

	if (r < 0)
		return r;
	uint32_t bits = 0;
	unsigned have = 0;

	for (size_t i = 0; i < n; i++) {
		int v = base64_value(s[i]);

		if (v < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			r = buf_putc(out, (char)(bits >> have & 255));
			if (r < 0)
				return r;
		}
	}
	/* Bits left over must be zero: one encoding a value. */
	return (bits & ((1U << have) - 1)) ? -EINVAL : 0;
}
