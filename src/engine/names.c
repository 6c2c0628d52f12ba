/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/names.h"

#include "base/mem.h"
#include "base/random.h"

#include <ctype.h>
#include <string.h>

static const char *const adjectives[] = {
	"agile",    "amber",	"ample",   "apt",     "aware",	 "bold",   "brave",   "breezy",
	"bright",   "brisk",	"calm",	   "candid",  "chipper", "clean",  "clever",  "cosy",
	"crisp",    "curious",	"daring",  "deft",    "direct",	 "eager",  "earnest", "easy",
	"fair",	    "fearless", "festive", "fond",    "frank",	 "fresh",  "frosty",  "gentle",
	"glad",	    "golden",	"grand",   "happy",   "hardy",	 "hearty", "honest",  "humble",
	"jolly",    "jovial",	"keen",	   "kind",    "lively",	 "lucid",  "lucky",   "mellow",
	"merry",    "mild",	"modest",  "neat",    "nimble",	 "noble",  "patient", "placid",
	"polite",   "prompt",	"proud",   "quick",   "quiet",	 "ready",  "robust",  "rustic",
	"serene",   "sharp",	"silent",  "sincere", "smart",	 "snug",   "sober",   "solid",
	"spirited", "stable",	"steady",  "sturdy",  "subtle",	 "sunny",  "swift",   "tender",
	"tidy",	    "tranquil", "trusty",  "upbeat",  "valiant", "vivid",  "warm",    "wise",
	"witty",    "zesty",
};

static const char *const people[] = {
	"abel",		"agnesi",    "arrow",	     "babbage",	   "bell",	   "bernoulli",
	"bohr",		"boltzmann", "boole",	     "cantor",	   "cauchy",	   "celsius",
	"cori",		"curie",     "darwin",	     "dirac",	   "doppler",	   "euler",
	"exner",	"faraday",   "fermat",	     "fermi",	   "fibonacci",	   "fourier",
	"freud",	"galois",    "gauss",	     "germain",	   "goedel",	   "hamming",
	"haydn",	"hedy",	     "hertz",	     "hess",	   "hilbert",	   "hopper",
	"huygens",	"jacobi",    "jenner",	     "joule",	   "kelvin",	   "kepler",
	"kovalevskaya", "lagrange",  "lamarr",	     "lamport",	   "landsteiner",  "laplace",
	"leibniz",	"linnaeus",  "lorenz",	     "lovelace",   "mach",	   "maxwell",
	"meitner",	"mendel",    "mozart",	     "napier",	   "nash",	   "neumann",
	"newton",	"noether",   "nobel",	     "ohm",	   "pascal",	   "pasteur",
	"pauli",	"planck",    "poincare",     "popper",	   "pythagoras",   "ressel",
	"riemann",	"ritchie",   "schroedinger", "semmelweis", "shannon",	   "stefan",
	"suttner",	"tesla",     "torvalds",     "turing",	   "volta",	   "wallis",
	"watt",		"weber",     "weierstrass",  "wirth",	   "wittgenstein",
};

bool name_valid(const char *s)
{
	size_t n = strlen(s);

	if (n < 2 || n > NAME_MAX_LEN || !isascii((unsigned char)s[0]) ||
	    !isalnum((unsigned char)s[0]))
		return false;
	for (size_t i = 1; i < n; i++) {
		unsigned char c = s[i];

		if (!isascii(c) || (!isalnum(c) && c != '_' && c != '.' && c != '-'))
			return false;
	}
	return true;
}

char *name_random(unsigned attempt)
{
	uint64_t r = random_u64();
	const char *a = adjectives[r % ARRAY_SIZE(adjectives)];
	const char *p = people[(r >> 20) % ARRAY_SIZE(people)];

	if (attempt == 0)
		return xasprintf("%s_%s", a, p);
	return xasprintf("%s_%s%u", a, p, (unsigned)(r >> 40) % (attempt < 4 ? 10 : 100000));
}
