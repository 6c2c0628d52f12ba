/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"
#include "base/mem.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

int parse_uint64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	bool overflow = false;

	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		overflow |= __builtin_mul_overflow(v, 10U, &v);
		overflow |= __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v);
	}
	if (overflow)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_int64(const char *s, int64_t *ret)
{
	bool negative = *s == '-';
	uint64_t v;
	int r = parse_uint64(s + (*s == '-' || *s == '+'), &v);

	if (r < 0)
		return r;
	if (v > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	*ret = (int64_t)(negative ? 0 - v : v);
	return 0;
}

static void make_locale(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c_locale)
		abort();
}

int parse_double(const char *s, double *ret)
{
	char *end;

	/* strtod would also take blanks, hexadecimal, infinities and NaN. */
	if (!*s || s[strspn(s, "0123456789+-.eE")])
		return -EINVAL;
	pthread_once(&c_locale_once, make_locale);
	errno = 0;
	double v = strtod_l(s, &end, c_locale);

	if (*end || end == s)
		return -EINVAL;
	if (isinf(v))
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_bool(const char *s, bool *ret)
{
	static const char *const words[2][6] = {
		{ "0", "f", "F", "false", "FALSE", "False" },
		{ "1", "t", "T", "true", "TRUE", "True" },
	};

	for (size_t value = 0; value < 2; value++) {
		for (size_t i = 0; i < ARRAY_SIZE(words[value]); i++) {
			if (strcmp(s, words[value][i]) == 0) {
				*ret = value;
				return 0;
			}
		}
	}
	return -EINVAL;
}

/* "", "b", "k", "kb", "kib" ...: the power of two, or -EINVAL. */
static int size_suffix(const char *s)
{
	static const char units[] = "kmgtp";

	if (!*s || strcasecmp(s, "b") == 0)
		return 0;
	const char *unit = strchr(units, *s | 0x20);

	if (!unit || !*unit)
		return -EINVAL;
	if (s[1] && strcasecmp(s + 1, "b") != 0 && strcasecmp(s + 1, "ib") != 0)
		return -EINVAL;
	return (int)(unit - units + 1) * 10;
}

int parse_size(const char *s, int64_t *ret)
{
	size_t digits = strspn(s, "0123456789.");

	if (digits == 0 || digits > 32)
		return -EINVAL;
	autofree char *number = xstrndup(s, digits);
	int shift = size_suffix(s + digits + (s[digits] == ' '));

	if (shift < 0)
		return shift;
	if (!strchr(number, '.')) {
		int64_t v;
		int r = parse_int64(number, &v);

		if (r < 0)
			return r;
		if (v > INT64_MAX >> shift)
			return -ERANGE;
		*ret = v << shift;
		return 0;
	}
	double v;
	int r = parse_double(number, &v);

	if (r < 0)
		return r;
	v = ldexp(v, shift);
	if (v >= 0x1p63)
		return -ERANGE;
	*ret = (int64_t)v;
	return 0;
}
