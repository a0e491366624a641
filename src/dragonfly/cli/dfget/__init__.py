"""dfget: files and directories by URL, through the daemon of this machine.

Belongs: its flags, its conversation with the daemon, the output. Does not belong: what every command line shares
(progress, exit statuses, signals), which lies beside this room.

    arguments (flags, flag_texts, wanted_range, include, source_access)
        -> one_file  -> daemon_link  -> account (+ received) -> output
        -> directory -> daemon_files -> listing, account (+ received) -> tree -> output
"""
