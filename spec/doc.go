// Package spec turns a bundle directory into a validated *specs.Spec.
//
// It belongs here if it can be said about a configuration by looking at it:
// how config.json is decoded, what makes it invalid, what this runtime does
// not support yet, and what the default configuration is. Whatever needs the
// kernel's answer (is the device allowed, does the file system type exist, is
// the limit accepted) belongs to the packages that ask the kernel.
//
// specs.Spec is the only configuration type. Nothing here rewrites a
// configuration: the spec in a Bundle is what its author wrote.
package spec
