;;; imagestreamfs.el --- show why a save was refused  -*- lexical-binding: t -*-

;; NAME.error stands beside the file after the write failed.  Into init.el: (load "imagestreamfs").

(defun imagestreamfs--show-error (save &rest arguments)
  "Call SAVE with ARGUMENTS; when it fails, show the file's NAME.error."
  (condition-case failure
      (apply save arguments)
    (file-error
     (let ((reason (and buffer-file-name (concat buffer-file-name ".error"))))
       (when (and reason (file-readable-p reason))
         (with-current-buffer (get-buffer-create "*imagestreamfs*")
           (let ((inhibit-read-only t))
             (erase-buffer)
             (insert-file-contents reason))
           (special-mode)
           (display-buffer (current-buffer)))))
     (signal (car failure) (cdr failure)))))

(advice-add 'basic-save-buffer :around #'imagestreamfs--show-error)

(provide 'imagestreamfs)
;;; imagestreamfs.el ends here
