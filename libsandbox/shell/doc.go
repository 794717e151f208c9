// Package shell keeps one shell process and runs commands in it, so that a command
// costs what the shell needs and the shell's state stays: working directory, variables,
// functions, options, umask. It knows no container: a callback starts the shell, and all
// else goes through the FIFOs of one directory. What makes containers, finds images or
// parses flags does not belong here.
//
// # The shell
//
// bash, dash or the ash of busybox, interactive, but without a terminal of its own: an
// interactive shell comes back to its top level after a syntax error, a failed ${x:?} or
// SIGINT, where a script ends. It is a child subreaper, so that whatever is started in it
// stays below it.
//
//	0      input: a pipe (bash)      the lines below come through it
//	       otherwise                 lines that have it read the FIFO "in" by the dot command
//	1      records                   the FIFO s, told apart from prompts and what traps print
//	2      prompts                   a pipe that nobody reads and that never blocks
//	100    the session's directory   /proc/self/fd/100/NAME, written D/NAME here
//
// The directory should be a read-only mount, through which FIFOs can be written to all the
// same. Descriptor 100 is all that commands inherit, and what is written to a directory
// does no harm. A command has the FIFOs o and e for outputs, and /dev/null for stdin, or a
// file or FIFO of its own.
//
// # A command
//
//	session                                            shell
//	-------                                            -----
//	. D/r3                       $? of the one before, where it was not 0
//	eval 'TEXT' </dev/null >D/o 2>D/e        ------->  runs TEXT
//	echo "17 $?"                             (its own stdout: s)
//	{ export -p; echo MARK; } >D/x
//	   reads o and e         <-----------------------  output
//	   reads s: 17 0         <-----------------------  record: command 17 has ended
//	   reads what o and e hold at this moment, and
//	   returns the Result                    <-------  x: exported variables, read some time later
//
// To bash, TEXT comes as a file of its own in most cases (hush.go):
//
//	\. D/a </dev/null >D/o 2>D/e
//
// The script goes through the input as it is, or, where it is long or returns, as a file
// that the input names (. D/a, . D/b in turn: dash and ash read on in a file when its
// command has ended). The end is told by the record and nothing else. Anybody in the
// container can write one, but only one with the right number counts, so that no result is
// ever that of another command.
//
// Nothing is read until the end of a file. The kernel tells how many bytes are in a pipe,
// these belong to the command, and then whether it still has a writer: if so, a process in
// the background has it, the FIFO becomes a Job's, which goes on reading it, and the session
// makes itself a new one.
//
// # No record
//
// After 1 ms, with bash 4, and then at growing intervals up to 100 ms, the session looks at
// what became of a command that has not ended. If the shell has read all of its input, it
// is sent
//
//	echo "17 $? again" >D/s
//
// once more. A shell that is busy does not read it, and does no harm with it later. One
// that has dropped the rest of the script, because an error or SIGINT sent it to its top
// level, answers. One that reads five of them and does not answer has lost its way: a
// command has closed its descriptors. It is killed, and the Result says so. A shell that
// ends tells its result by its exit status; the next one gets its working directory and
// exported variables. What a command exports before it ends the shell itself is lost.
//
// # Timeouts
//
// The command's processes are those below the shell, but for those that were there before
// (kill.go says how they are told apart). They are stopped, all of them, and killed. A bash
// that reads the command from a file is sent SIGRTMAX just before, which it has a trap for
// that leaves the file; otherwise they and the shell are sent SIGINT first, but for a
// busybox ash that is busy, which has a trap that does it. So it goes on until there is a
// record; a shell that has none after a second is killed, and so is a dash or ash with a
// trap of SIGINT, at once, as it would execute what follows. Then one more record is asked
// for, so that nothing that was meant for this command meets the next.
//
// # What it does not do
//
// A command can write a record of its own end before it has ended, and so deceive who sent
// it; it can break the tools that scripts are made of (enable -n echo) and so have every
// command end by the shell's being killed. A process of an earlier command that has closed
// its outputs, was forked during a later one and lost its parent is taken for one of that.
// The trap of bash leaves one function or file at a time: where a timeout meets it in
// several, one of a few hundred times something of the outer ones is executed. The list of
// traps shows it. After that of ash, $LINENO stands still. With set -e, a killed program ends
// the shell.
//
// In bash, a RETURN trap sees the end of each command, and a DEBUG trap without functrace no
// other command than that which set it.
package shell
