// Package kernel wraps the system calls that this process makes itself, as opposed
// to those that programs make: executables in memory, process descriptors, names
// of namespaces, the kernel's version, one place that retries EINTR.
//
// Wrappers are thin: they add O_CLOEXEC, the retry and the error's context, and
// nothing else. The only unsafe code outside package engine lives here.
package kernel
