// Package runtime is the command line: one verb per file, each of which turns
// flags into a library call and the result into text.
//
// Names, flags, exit statuses and output formats are runc's, because managers
// (podman, containerd, Docker) were written against them. What a verb does is
// in package libsandbox, what a configuration means in package spec.
package runtime
