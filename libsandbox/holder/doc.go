// Package holder keeps the shell sessions of a container for processes that come and go.
// The holder is one process; its clients speak with it by packets on a socket
// (SOCK_SEQPACKET, unix(7)), one request for each connection:
//
//	client                                     holder
//	------ request (stdin, text) ------------>
//	<----- begun (stdout, stderr) ------------
//	         reads the outputs                 waits for the command's end
//	<----- result ----------------------------
//	         reads what is left of them
//	------ end ------------------------------>  the session is free
//
// What stands in parentheses are descriptors: the outputs go from the command to the
// client and nowhere else. Of the client's own descriptors the holder gets none but the end
// of a pipe, and the container none at all. A connection that is closed before the result
// cancels the command.
//
// Requests other than for a command have one answer. An answer to anything may be an error.
//
// The package knows no container: callbacks make sessions, and say when it is over.
package holder
