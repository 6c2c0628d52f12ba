/* SPDX-License-Identifier: Apache-2.0 */
#include "base/human.h"

#include "base/mem.h"

static char *scaled(double v, double base, const char *const *units, size_t n, int precision)
{
	size_t i = 0;

	while (v >= base && i + 1 < n) {
		v /= base;
		i++;
	}
	return xasprintf("%.*g%s", precision, v, units[i]);
}

char *human_size(double bytes, int precision)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };

	return scaled(bytes, 1000, units, ARRAY_SIZE(units), precision);
}

char *human_bytes(double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };

	return scaled(bytes, 1024, units, ARRAY_SIZE(units), 4);
}

char *human_duration(int64_t seconds)
{
	int64_t minutes = seconds / 60;
	int64_t hours = (seconds + 1800) / 3600;

	if (seconds < 1)
		return xstrdup("Less than a second");
	if (seconds == 1)
		return xstrdup("1 second");
	if (seconds < 60)
		return xasprintf("%lld seconds", (long long)seconds);
	if (minutes == 1)
		return xstrdup("About a minute");
	if (minutes < 60)
		return xasprintf("%lld minutes", (long long)minutes);
	if (hours == 1)
		return xstrdup("About an hour");
	if (hours < 48)
		return xasprintf("%lld hours", (long long)hours);
	if (hours < 24 * 7 * 2)
		return xasprintf("%lld days", (long long)hours / 24);
	if (hours < 24 * 30 * 2)
		return xasprintf("%lld weeks", (long long)hours / 24 / 7);
	if (hours < 24 * 365 * 2)
		return xasprintf("%lld months", (long long)hours / 24 / 30);
	return xasprintf("%lld years", (long long)hours / 24 / 365);
}
