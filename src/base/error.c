/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

static_assert(ERROR_UNAUTHENTICATED == 16 && ERROR_CODE_MAX == 17, "the codes are gRPC's");

static const char *const code_names[ERROR_CODE_MAX] = {
	[ERROR_OK] = "OK",
	[ERROR_CANCELLED] = "CANCELLED",
	[ERROR_UNKNOWN] = "UNKNOWN",
	[ERROR_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	[ERROR_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	[ERROR_NOT_FOUND] = "NOT_FOUND",
	[ERROR_ALREADY_EXISTS] = "ALREADY_EXISTS",
	[ERROR_PERMISSION_DENIED] = "PERMISSION_DENIED",
	[ERROR_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	[ERROR_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	[ERROR_ABORTED] = "ABORTED",
	[ERROR_OUT_OF_RANGE] = "OUT_OF_RANGE",
	[ERROR_UNIMPLEMENTED] = "UNIMPLEMENTED",
	[ERROR_INTERNAL] = "INTERNAL",
	[ERROR_UNAVAILABLE] = "UNAVAILABLE",
	[ERROR_DATA_LOSS] = "DATA_LOSS",
	[ERROR_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

static const struct {
	int sys;
	enum error_code code;
} errno_codes[] = {
	{ 0, ERROR_OK },
	{ ENOENT, ERROR_NOT_FOUND },
	{ ESRCH, ERROR_NOT_FOUND },
	{ ENODEV, ERROR_NOT_FOUND },
	{ ENXIO, ERROR_NOT_FOUND },
	{ EEXIST, ERROR_ALREADY_EXISTS },
	{ EACCES, ERROR_PERMISSION_DENIED },
	{ EPERM, ERROR_PERMISSION_DENIED },
	{ EINVAL, ERROR_INVALID_ARGUMENT },
	{ ENAMETOOLONG, ERROR_INVALID_ARGUMENT },
	{ ELOOP, ERROR_INVALID_ARGUMENT },
	{ E2BIG, ERROR_INVALID_ARGUMENT },
	{ ERANGE, ERROR_OUT_OF_RANGE },
	{ EOVERFLOW, ERROR_OUT_OF_RANGE },
	{ ENOSPC, ERROR_RESOURCE_EXHAUSTED },
	{ EDQUOT, ERROR_RESOURCE_EXHAUSTED },
	{ ENOMEM, ERROR_RESOURCE_EXHAUSTED },
	{ EMFILE, ERROR_RESOURCE_EXHAUSTED },
	{ ENFILE, ERROR_RESOURCE_EXHAUSTED },
	{ ENOBUFS, ERROR_RESOURCE_EXHAUSTED },
	{ EFBIG, ERROR_RESOURCE_EXHAUSTED },
	{ EBUSY, ERROR_FAILED_PRECONDITION },
	{ ENOTEMPTY, ERROR_FAILED_PRECONDITION },
	{ ENOTDIR, ERROR_FAILED_PRECONDITION },
	{ EISDIR, ERROR_FAILED_PRECONDITION },
	{ EROFS, ERROR_FAILED_PRECONDITION },
	{ ENOEXEC, ERROR_FAILED_PRECONDITION },
	{ ECANCELED, ERROR_CANCELLED },
	{ ETIMEDOUT, ERROR_DEADLINE_EXCEEDED },
	{ ETIME, ERROR_DEADLINE_EXCEEDED },
	{ ENOSYS, ERROR_UNIMPLEMENTED },
	{ EOPNOTSUPP, ERROR_UNIMPLEMENTED },
	{ EAFNOSUPPORT, ERROR_UNIMPLEMENTED },
	{ ECONNREFUSED, ERROR_UNAVAILABLE },
	{ ECONNRESET, ERROR_UNAVAILABLE },
	{ EPIPE, ERROR_UNAVAILABLE },
	{ ENOTCONN, ERROR_UNAVAILABLE },
	{ EHOSTUNREACH, ERROR_UNAVAILABLE },
	{ ENETUNREACH, ERROR_UNAVAILABLE },
	{ EAGAIN, ERROR_UNAVAILABLE },
	{ EBADMSG, ERROR_DATA_LOSS },
	{ EIO, ERROR_DATA_LOSS },
};

const char *error_code_name(enum error_code code)
{
	return (unsigned)code < ERROR_CODE_MAX ? code_names[code] : "UNKNOWN";
}

enum error_code error_code_from_errno(int sys)
{
	for (size_t i = 0; i < ARRAY_SIZE(errno_codes); i++)
		if (errno_codes[i].sys == sys)
			return errno_codes[i].code;
	return ERROR_UNKNOWN;
}

/* Takes msg. */
static int replace(struct error *err, enum error_code code, int sys, char *msg)
{
	assert(code != ERROR_OK);
	free(err->msg);
	*err = (struct error){ .code = code, .sys = sys, .msg = msg };
	return -1;
}

int error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	char *msg = xvasprintf(fmt, ap);
	va_end(ap);
	return replace(err, code, 0, msg);
}

int error_errno(struct error *err, int sys, const char *fmt, ...)
{
	va_list ap;
	char text[128];

	if (!err)
		return -1;
	assert(sys > 0);
	va_start(ap, fmt);
	autofree char *msg = xvasprintf(fmt, ap);
	va_end(ap);
	return replace(err, error_code_from_errno(sys), sys,
		       xasprintf("%s: %s", msg, strerror_r(sys, text, sizeof(text))));
}

int error_wrap(struct error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	assert(err->code != ERROR_OK);
	va_start(ap, fmt);
	autofree char *prefix = xvasprintf(fmt, ap);
	va_end(ap);
	char *msg = xasprintf("%s: %s", prefix, error_msg(err));

	return replace(err, err->code, err->sys, msg);
}

int error_move(struct error *dst, struct error *src)
{
	assert(src->code != ERROR_OK);
	if (!dst) {
		error_done(src);
		return -1;
	}
	assert(dst != src);
	free(dst->msg);
	*dst = *src;
	*src = ERROR_INIT;
	return -1;
}

void error_done(struct error *err)
{
	free(err->msg);
	*err = ERROR_INIT;
}

const char *error_msg(const struct error *err)
{
	return err && err->msg ? err->msg : "";
}

bool error_is(const struct error *err, enum error_code code)
{
	return err && err->code == code;
}
