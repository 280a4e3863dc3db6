#compdef imagestreamfs
# The options are those that the program itself lists, contexts and namespaces those of the kubeconfig: no
# server is asked.

_imagestreamfs_names()
{
	local -a kubeconfig names
	local i

	for ((i = 2; i < CURRENT; i++)); do
		case $words[i] in
		--kubeconfig=*) kubeconfig=("${words[i]}") ;;
		--kubeconfig) kubeconfig=(--kubeconfig "${words[i + 1]}") ;;
		esac
	done
	names=("${(@f)$($words[1] $kubeconfig --complete=$1 2>/dev/null)}")
	compadd -a names
}

_imagestreamfs_first()
{
	_files -/
	_imagestreamfs_names contexts
}

_imagestreamfs()
{
	local -a arguments match mbegin mend
	local line help action letter name value

	while IFS= read -r line; do
		[[ $line =~ '^ *(-(.), )? *--([a-z_-]+)(=([A-Za-z|]+))? +(.*)$' ]] || continue
		letter=$match[2] name=$match[3] value=$match[5] help=${match[6]//[\[\]:]/ }
		case $name:$value in
		*:FILE) action=_files ;;
		context:*) action='{_imagestreamfs_names contexts}' ;;
		namespace:*) action='{_imagestreamfs_names namespaces}' ;;
		*'|'*) action="(${value//|/ })" ;;
		*) action=' ' ;;
		esac
		arguments+=("*--$name${value:+=}[$help]${value:+:$value:$action}")
		[[ -z $letter ]] || arguments+=("*-$letter${value:++}[$help]${value:+:$value:$action}")
	done < <($words[1] --help 2>/dev/null)
	_arguments -s $arguments '*-o+[any of the long ones, or FUSE'"'"'s]:option: ' \
		'1:context or mountpoint:_imagestreamfs_first' '2:mountpoint:_files -/'
}

_imagestreamfs "$@"
