// Package harness builds OCI bundles, drives a runtime binary over its command
// line, and checks that nothing is left behind afterwards.
//
// It knows a runtime only as an executable with runc's verbs, so the same tests
// run on this project's binary and on the runtimes it is compared with. It holds
// no assertions about OCI behaviour; those are in tests/bundle.
//
// The environment it reads:
//
//	ADL_RUNTIME     the runtime to test; unset means build this repository's
//	ADL_OLD_KERNEL  if not empty, it gets to know no more of the kernel than Linux 5.10 has
//
// and, for the tests, sets in [Main]: ADL_RUNTIME (absolute path), ADL_REFERENCE
// (see [Reference]) and ADL_TEST_STORE (a folder with the static busybox that all
// bundles hard-link).
//
// The test process makes itself a child subreaper, as a manager's monitor does,
// so that the init of a created container becomes its child and can be waited for.
package harness
