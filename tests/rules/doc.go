// Package rules holds the rules of this repository as ordinary tests: which
// package may import which, where unsafe code may be, what must not cost time at
// start-up, what must be documented.
//
// A rule is a function from a parsed source file to complaints, and each is also
// run on a piece of source that breaks it, so that no rule can pass by accident.
// An exception is a line in a table here, with its reason.
package rules
