" Shows why a save was refused: NAME.error, which stands beside the file after the write failed, in the
" preview window. Into ~/.vim/plugin/ (vim) or ~/.config/nvim/plugin/ (neovim).
"
" vim ends a failed write without an event of its own: the file that is still modified afterwards tells.

augroup imagestreamfs
	autocmd!
	autocmd BufWritePre *.json,*.yaml,from call timer_start(0, function('s:look', [expand('<afile>:p')]))
augroup END

function! s:look(path, timer) abort
	let l:error = a:path . '.error'
	if getbufvar(bufnr(a:path), '&modified') && filereadable(l:error)
		execute 'pedit +setlocal\ nomodifiable\ noswapfile\ autoread' fnameescape(l:error)
	elseif getbufvar(bufnr(a:path), '&modified') == 0
		silent! pclose
	endif
endfunction
