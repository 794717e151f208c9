// Package frame is what the benchmarks share: how they read a command line, are alone with
// their mounts and processes and leave nothing behind, and what they say of a series of
// samples, of the machine and of their targets. What is measured is their own.
package frame
