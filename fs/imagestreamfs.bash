# bash completion for imagestreamfs. The options are those that the program itself lists.

_imagestreamfs()
{
	# shellcheck disable=SC2034 # _init_completion sets them
	local cur prev words cword split line value="" options=(-o)
	_init_completion -s -n : || return
	while read -r line; do
		[[ $line =~ ^(-(.), )?(--[a-z_-]+)(=([A-Z]+))?\  ]] || continue
		options+=("${BASH_REMATCH[3]}${BASH_REMATCH[5]:+=}")
		[[ $prev != "${BASH_REMATCH[3]}" && $prev != "-${BASH_REMATCH[2]}" ]] ||
			value=${BASH_REMATCH[5]}
	done < <("$1" --help 2>/dev/null)

	if [ "$value" = FILE ]; then
		_filedir
	elif [ "$prev" = --context ]; then
		_imagestreamfs_contexts
	elif [ -n "$value" ] || $split; then
		return
	elif [ "$prev" = -o ]; then
		options=("${options[@]/#--/}" allow_other)
		mapfile -t COMPREPLY < <(compgen -P "${cur%"${cur##*,}"}" -W "${options[*]:1}" -- "${cur##*,}")
	elif [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "${options[*]}" -- "$cur")
	else
		_filedir -d
		_imagestreamfs_contexts
	fi
	[[ ${COMPREPLY-} != *= ]] || compopt -o nospace
}

# Adds the contexts of the kubeconfig, where there is somebody to name them.
_imagestreamfs_contexts()
{
	local tool contexts

	tool=$(type -P oc || type -P kubectl) || return 0
	contexts=$("$tool" config get-contexts -o name 2>/dev/null)
	mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$contexts" -- "$cur")
	__ltrim_colon_completions "$cur"
}

complete -F _imagestreamfs imagestreamfs
