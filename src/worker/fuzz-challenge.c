/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "worker/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autochallenges struct challenges c = CHALLENGES_INIT;
	autofree char *text = xstrndup((const char *)data, size);

	(void)challenges_parse(&c, text);
	(void)challenges_find(&c, "bearer");
	return 0;
}
