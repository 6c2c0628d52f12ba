/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calendar is computed here: the C library's functions take a lock and the time zone with them.
 */
#include "base/time.h"
#include "base/mem.h"
#include "base/parse.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_SECONDS 86400

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;
	int r = clock_gettime(id, &ts);

	assert(r == 0);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int64_t time_realtime(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t time_monotonic(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar. */
static int64_t days_from_date(int64_t year, int month, int day)
{
	/* Years begin in March, so that the leap day is a year's last. */
	if (month <= 2)
		year--;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - 719468;
}

static void date_from_days(int64_t days, int *year, int *month, int *day)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	int64_t d = days - era * 146097;
	int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365;
	int64_t day_of_year = d - (365 * y + y / 4 - y / 100);
	int64_t m = (5 * day_of_year + 2) / 153;

	*day = (int)(day_of_year - (153 * m + 2) / 5 + 1);
	*month = (int)(m < 10 ? m + 3 : m - 9);
	*year = (int)(y + era * 400 + (*month <= 2));
}

static int days_in_month(int year, int month)
{
	static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

static void split(int64_t ns, int64_t *seconds, int *fraction)
{
	*seconds = ns / NSEC_PER_SEC;
	*fraction = (int)(ns % NSEC_PER_SEC);
	if (*fraction < 0) {
		*fraction += (int)NSEC_PER_SEC;
		*seconds -= 1;
	}
}

void time_format_rfc3339_fixed(int64_t ns, char out[TIME_RFC3339_MAX])
{
	int64_t seconds;
	int fraction, year, month, day;

	split(ns, &seconds, &fraction);
	int64_t days = (seconds >= 0 ? seconds : seconds - DAY_SECONDS + 1) / DAY_SECONDS;
	int rest = (int)(seconds - days * DAY_SECONDS);

	date_from_days(days, &year, &month, &day);
	/* Room for what the compiler thinks that a year might be. */
	char text[64];
	int n = snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", year, month,
			 day, rest / 3600, rest / 60 % 60, rest % 60, fraction);

	assert(n > 0 && n < TIME_RFC3339_MAX);
	memcpy(out, text, (size_t)n + 1);
}

void time_format_rfc3339(int64_t ns, char out[TIME_RFC3339_MAX])
{
	time_format_rfc3339_fixed(ns, out);
	size_t len = strlen(out) - 1;

	while (out[len - 1] == '0')
		len--;
	if (out[len - 1] == '.')
		len--;
	out[len] = 'Z';
	out[len + 1] = '\0';
}

/* Exactly n digits. */
static bool take_digits(const char **s, int n, int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		char c = (*s)[i];

		if (c < '0' || c > '9')
			return false;
		v = v * 10 + c - '0';
	}
	*s += n;
	*ret = v;
	return true;
}

static bool take_char(const char **s, char c)
{
	if (**s != c)
		return false;
	(*s)++;
	return true;
}

/* Digits after the point; those beyond nanoseconds are dropped. */
static bool take_fraction(const char **s, int *ret)
{
	int ns = 0, scale = (int)NSEC_PER_SEC;
	const char *p = *s;

	for (; *p >= '0' && *p <= '9'; p++) {
		scale /= 10;
		ns += (*p - '0') * scale;
	}
	if (p == *s)
		return false;
	*s = p;
	*ret = ns;
	return true;
}

static bool take_date(const char **s, int64_t *ret_days)
{
	int year, month, day;

	if (!take_digits(s, 4, &year) || !take_char(s, '-') || !take_digits(s, 2, &month) ||
	    !take_char(s, '-') || !take_digits(s, 2, &day))
		return false;
	if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
		return false;
	*ret_days = days_from_date(year, month, day);
	return true;
}

static bool take_clock(const char **s, int *ret_seconds, int *ret_ns)
{
	int hour, minute, second;

	if (!take_digits(s, 2, &hour) || !take_char(s, ':') || !take_digits(s, 2, &minute) ||
	    !take_char(s, ':') || !take_digits(s, 2, &second))
		return false;
	if (hour > 23 || minute > 59 || second > 59)
		return false;
	*ret_seconds = hour * 3600 + minute * 60 + second;
	return !take_char(s, '.') || take_fraction(s, ret_ns);
}

static bool take_zone(const char **s, int *ret_seconds)
{
	int hour, minute, sign = **s == '-' ? -1 : 1;

	if (take_char(s, 'Z'))
		return true;
	if (!take_char(s, '+') && !take_char(s, '-'))
		return false;
	if (!take_digits(s, 2, &hour) || !take_char(s, ':') || !take_digits(s, 2, &minute) ||
	    hour > 23 || minute > 59)
		return false;
	*ret_seconds = sign * (hour * 3600 + minute * 60);
	return true;
}

static int join(int64_t seconds, int64_t ns, int64_t *ret)
{
	int64_t v;

	if (__builtin_mul_overflow(seconds, NSEC_PER_SEC, &v) || __builtin_add_overflow(v, ns, &v))
		return -ERANGE;
	*ret = v;
	return 0;
}

/* partial: the clock and the zone may be missing (midnight, UTC). */
static int parse_date(const char *s, bool partial, int64_t *ret)
{
	int64_t days;
	int seconds = 0, ns = 0, zone = 0;

	if (!take_date(&s, &days))
		return -EINVAL;
	if (take_char(&s, 'T')) {
		if (!take_clock(&s, &seconds, &ns))
			return -EINVAL;
		if (!(partial && !*s) && !take_zone(&s, &zone))
			return -EINVAL;
	} else if (!partial) {
		return -EINVAL;
	}
	if (*s)
		return -EINVAL;
	return join(days * DAY_SECONDS + seconds - zone, ns, ret);
}

int time_parse_rfc3339(const char *s, int64_t *ret)
{
	return parse_date(s, /* partial= */ false, ret);
}

static bool take_unit(const char **s, int64_t *ret)
{
	/* Longer names before their prefixes. */
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {
		{ "ns", 1 },
		{ "us", 1000 },
		{ "\xc2\xb5s", 1000 }, /* micro sign */
		{ "\xce\xbcs", 1000 }, /* Greek mu */
		{ "ms", NSEC_PER_MSEC },
		{ "s", NSEC_PER_SEC },
		{ "m", 60 * NSEC_PER_SEC },
		{ "h", 3600 * NSEC_PER_SEC },
	};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (str_has_prefix(*s, units[i].name)) {
			*s += strlen(units[i].name);
			*ret = units[i].ns;
			return true;
		}
	}
	return false;
}

/* One "1.5h" of a duration, added to *sum. */
static int take_term(const char **s, int64_t *sum)
{
	int64_t whole = 0, unit;
	double fraction = 0, scale = 1;
	const char *start = *s;
	bool digits = false;

	for (; **s >= '0' && **s <= '9'; (*s)++, digits = true)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, **s - '0', &whole))
			return -EINVAL;
	if (take_char(s, '.')) {
		for (; **s >= '0' && **s <= '9'; (*s)++, digits = true) {
			scale /= 10;
			fraction += (**s - '0') * scale;
		}
	}
	if (!digits || *s == start || !take_unit(s, &unit))
		return -EINVAL;
	if (__builtin_mul_overflow(whole, unit, &whole) ||
	    __builtin_add_overflow(*sum, whole, sum) ||
	    __builtin_add_overflow(*sum, (int64_t)(fraction * (double)unit + 0.5), sum))
		return -EINVAL;
	return 0;
}

int time_parse_duration(const char *s, int64_t *ret_ns)
{
	bool negative = *s == '-';
	int64_t sum = 0;

	if (*s == '-' || *s == '+')
		s++;
	if (strcmp(s, "0") == 0) {
		*ret_ns = 0;
		return 0;
	}
	if (!*s)
		return -EINVAL;
	while (*s) {
		int r = take_term(&s, &sum);

		if (r < 0)
			return r;
	}
	*ret_ns = negative ? -sum : sum;
	return 0;
}

/* "1763892000", "1763892000.5". */
static int parse_unix(const char *s, int64_t *ret)
{
	size_t digits = strspn(s, "0123456789");
	int64_t seconds;
	int ns = 0;

	if (digits == 0 || digits > 18)
		return -EINVAL;
	autofree char *whole = xstrndup(s, digits);
	int r = parse_int64(whole, &seconds);

	if (r < 0)
		return r;
	s += digits;
	if (take_char(&s, '.') && !take_fraction(&s, &ns))
		return -EINVAL;
	return *s ? -EINVAL : join(seconds, ns, ret);
}

int time_parse_docker(const char *s, int64_t now, int64_t *ret)
{
	int64_t ns;
	int r = parse_unix(s, ret);

	if (r != -EINVAL)
		return r;
	if (time_parse_duration(s, &ns) == 0) {
		if (__builtin_sub_overflow(now, ns, ret))
			return -ERANGE;
		return 0;
	}
	return parse_date(s, /* partial= */ true, ret);
}
