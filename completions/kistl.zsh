#compdef kistl
# SPDX-License-Identifier: Apache-2.0
# A stub: kistl itself knows its commands and options, and asks the daemon for names.

local -a candidates
candidates=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
candidates=(${candidates:#})
if (( ${#candidates} )); then
	# A path of the container follows "name:".
	compadd -S '' -- ${(M)candidates:#*:}
	compadd -- ${candidates:#*:}
else
	_files
fi
