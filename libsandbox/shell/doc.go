// Package shell keeps one shell process and runs commands in it, so that a command
// costs what the shell needs and the state of the shell stays: working directory,
// variables, functions, options, umask. It knows no container: a callback starts the
// shell, and everything else goes through descriptors of one directory.
package shell
