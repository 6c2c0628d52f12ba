/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays corpora through a fuzz target without libFuzzer, so that every test run covers them:
 * each argument is a file or a directory of files.
 */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	FILE *f = fopen(path, "rbe");
	if (!f) {
		perror(path);
		return 1;
	}
	size_t size = 0, alloc = 1 << 16;
	uint8_t *data = malloc(alloc);
	while (data) {
		size_t n = fread(data + size, 1, alloc - size, f);
		if (n == 0)
			break;
		size += n;
		if (size == alloc)
			data = realloc(data, alloc *= 2);
	}
	fclose(f);
	if (!data)
		return 1;
	/* An exact allocation, so that sanitizers see a read past the end. */
	uint8_t *exact = malloc(size ? size : 1);
	if (exact) {
		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
	}
	free(exact);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0, replayed = 0;

	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		struct stat st;
		if (stat(argv[i], &st) < 0) {
			perror(argv[i]);
			return 1;
		}
		if (!S_ISDIR(st.st_mode)) {
			failed |= replay_file(argv[i]);
			replayed++;
			continue;
		}
		DIR *dir = opendir(argv[i]);
		if (!dir) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *e; (e = readdir(dir));) {
			char path[4096];
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			failed |= replay_file(path);
			replayed++;
		}
		closedir(dir);
	}
	printf("%d inputs replayed\n", replayed);
	return failed || replayed == 0;
}
