# fish completion for imagestreamfs. The options are those that the program itself lists, contexts and
# namespaces those of the kubeconfig: no server is asked.

function __imagestreamfs_names
    set -l words (commandline -opc)
    set -l kubeconfig
    for i in (seq 2 (count $words))
        switch $words[$i]
            case '--kubeconfig=*'
                set kubeconfig $words[$i]
            case --kubeconfig
                set kubeconfig --kubeconfig $words[(math $i + 1)]
        end
    end
    $words[1] $kubeconfig --complete=$argv[1] 2>/dev/null
end

function __imagestreamfs_options
    imagestreamfs --help 2>/dev/null | while read -l line
        set -l part (string match -r '^ *(-., |) *--([a-z_-]+)(=[A-Za-z|]+|) +(.*)$' -- $line)
        or continue
        set -l option -c imagestreamfs -l $part[3] -d $part[5]
        test -z "$part[2]"; or set -a option -s (string sub -s 2 -l 1 -- $part[2])
        switch "$part[3]:$part[4]"
            case '*:=FILE'
                set -a option -r -F
            case 'context:*'
                set -a option -x -a '(__imagestreamfs_names contexts)'
            case 'namespace:*'
                set -a option -x -a '(__imagestreamfs_names namespaces)'
            case '*|*'
                set -a option -x -a (string sub -s 2 -- $part[4] | string replace -a '|' ' ')
            case '*:?*'
                set -a option -x
        end
        complete $option
    end
end

complete -c imagestreamfs -f
__imagestreamfs_options
complete -c imagestreamfs -s o -x -d "any of the long ones, or FUSE's"
complete -c imagestreamfs -a '(__fish_complete_directories)'
complete -c imagestreamfs -a '(__imagestreamfs_names contexts)' -d context
