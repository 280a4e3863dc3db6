# bash completion for imagestreamfs. The options are those that the program itself lists, contexts and
# namespaces those of the kubeconfig: no server is asked.

_imagestreamfs()
{
	# shellcheck disable=SC2034 # _init_completion sets them
	local cur prev words cword split line value="" name="" options=(-o)
	_init_completion -s -n : || return
	while read -r line; do
		[[ $line =~ ^(-(.), )?(--[a-z_-]+)(=([A-Za-z|]+))?\  ]] || continue
		options+=("${BASH_REMATCH[3]}${BASH_REMATCH[5]:+=}")
		[[ $prev != "${BASH_REMATCH[3]}" && $prev != "-${BASH_REMATCH[2]}" ]] ||
			{ name=${BASH_REMATCH[3]} value=${BASH_REMATCH[5]}; }
	done < <("$1" --help 2>/dev/null)

	if [ "$value" = FILE ]; then
		_filedir
	elif [[ $value == *'|'* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "${value//|/ }" -- "$cur")
	elif [ "$name" = --context ]; then
		_imagestreamfs_names "$1" contexts
	elif [ "$name" = --namespace ]; then
		_imagestreamfs_names "$1" namespaces
	elif [ -n "$value" ] || $split; then
		return
	elif [ "$prev" = -o ]; then
		options=("${options[@]/#--/}" allow_other)
		options=("${options[@]/#context=/kubecontext=}")
		mapfile -t COMPREPLY < <(compgen -P "${cur%"${cur##*,}"}" -W "${options[*]:1}" -- "${cur##*,}")
	elif [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "${options[*]}" -- "$cur")
	else
		_filedir -d
		_imagestreamfs_names "$1" contexts
	fi
	[[ ${COMPREPLY-} != *= ]] || compopt -o nospace
}

# Adds what the kubeconfig names; --kubeconfig may stand in the line.
_imagestreamfs_names()
{
	local IFS=$'\n' i kubeconfig=() names

	for ((i = 1; i < ${#words[@]} - 1; i++)); do
		case ${words[i]} in
		--kubeconfig=*) kubeconfig=("${words[i]}") ;;
		--kubeconfig) kubeconfig=(--kubeconfig "${words[i + 1]}") ;;
		esac
	done
	names=$("$1" "${kubeconfig[@]}" --complete="$2" 2>/dev/null)
	mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$names" -- "$cur")
	__ltrim_colon_completions "$cur"
}

complete -F _imagestreamfs imagestreamfs
