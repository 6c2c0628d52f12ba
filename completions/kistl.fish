# SPDX-License-Identifier: Apache-2.0
# A stub: kistl itself knows its commands and options, and asks the daemon for names.

function __kistl_complete
    set -l words (commandline -opc)
    set -l found ($words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end

complete -c kistl -f -a '(__kistl_complete)'
