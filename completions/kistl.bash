# bash completion for kistl                                -*- shell-script -*-
# SPDX-License-Identifier: Apache-2.0
# A stub: kistl itself knows its commands and options, and asks the daemon for names.

_kistl() {
	local cur words cword
	if declare -F _get_comp_words_by_ref >/dev/null; then
		# Image names hold colons, which are word breaks to bash.
		_get_comp_words_by_ref -n : cur words cword
	else
		words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}
	fi
	mapfile -t COMPREPLY < <("${words[0]}" __complete "${words[@]:1:cword}" 2>/dev/null)
	if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
		# A path of the container follows.
		compopt -o nospace
	fi
	if [[ ${#COMPREPLY[@]} -eq 0 && $cur != -* ]]; then
		compopt -o default
	fi
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}

complete -F _kistl kistl
