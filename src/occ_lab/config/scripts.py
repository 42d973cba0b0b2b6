"""The scripts that let a shell complete ``occ-lab``; see `occ_lab.config.completion`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """A script.

    Attributes:
        use: how it is used, for a terminal.
        script: its text.
    """

    use: str
    script: str


# Bash replaces only what follows the last "=" or ":", which are among COMP_WORDBREAKS. Version 3.2,
# of macOS, has no compopt: spaces are added here.
BASH = r"""_occ_lab() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" breaks="${COMP_WORDBREAKS//[^=:]/}"
    local word="${line##*[[:space:]]}" begin="" first rest paths=""
    if [[ -n "$breaks" && "$word" == *["$breaks"]* ]]; then
        begin="${word%"${word##*["$breaks"]}"}"
    fi
    COMPREPLY=()
    while IFS=$'\t' read -r first rest; do
        case "$first" in
            :file) paths=1; COMPREPLY+=($(compgen -f -- "${word#"$rest"}")) ;;
            :folder) paths=1; COMPREPLY+=($(compgen -d -- "${word#"$rest"}")) ;;
            *[=.,]) COMPREPLY+=("${first#"$begin"}") ;;
            *) COMPREPLY+=("${first#"$begin"} ") ;;
        esac
    done < <("$1" completion words "$line" 2>/dev/null)
    if [[ -n "$paths" ]]; then
        compopt -o filenames 2>/dev/null
        COMPREPLY=("${COMPREPLY[@]% }")
    fi
}
complete -o nospace -F _occ_lab occ-lab
"""
ZSH = r"""#compdef occ-lab
_occ_lab() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX" first rest paths begin
    local -a whole whole_shown open open_shown
    while IFS=$'\t' read -r first rest; do
        case "$first" in
            :file|:folder) paths="$first" begin="$rest" ;;
            *[=.,]) open+=("$first"); open_shown+=("$first${rest:+  -- $rest}") ;;
            *) whole+=("$first"); whole_shown+=("$first${rest:+  -- $rest}") ;;
        esac
    done < <("${words[1]}" completion words "$line" 2>/dev/null)
    (( $#whole )) && compadd -l -d whole_shown -- "${whole[@]}"
    (( $#open )) && compadd -l -S '' -d open_shown -- "${open[@]}"
    if [[ -n "$paths" ]]; then
        IPREFIX+="$begin"
        PREFIX="${PREFIX#"$begin"}"
        [[ "$paths" == :folder ]] && _files -/ || _files
    fi
}
if (( ! $+functions[compdef] )); then
    autoload -Uz compinit && compinit
fi
compdef _occ_lab occ-lab
"""
FISH = r"""function __occ_lab_complete
    set -l program (commandline -opc)[1]
    set -l word (commandline -ct)
    for row in ($program completion words (commandline -cp | string collect) 2>/dev/null)
        set -l parts (string split -m 1 \t -- $row)
        switch $parts[1]
            case ':file' ':folder'
                set -l typed (string sub -s (math 1 + (string length -- $parts[2])) -- $word)
                for path in (complete -C "'' $typed")
                    if test $parts[1] = ':file'; or string match -q -r '/(\t|$)' -- $path
                        printf '%s%s\n' $parts[2] $path
                    end
                end
            case '*'
                printf '%s\n' $row
        end
    end
end
complete -c occ-lab -f -a '(__occ_lab_complete)'
"""
SCRIPTS = {
    "bash": Script("occ-lab completion bash >> ~/.bashrc", BASH),
    "zsh": Script("occ-lab completion zsh >> ~/.zshrc", ZSH),
    "fish": Script("occ-lab completion fish > ~/.config/fish/completions/occ-lab.fish", FISH),
}
