// Package seccomp compiles the seccomp section of a spec (linux.seccomp) into the
// classic BPF program that seccomp(2) takes. It is data in, data out: it neither
// asks the kernel anything nor loads the program.
//
// A profile gets the verdicts that runc 1.5 gives it with libseccomp 2.5:
//
//   - Rules for names that this package does not know are skipped with a warning,
//     and so are rules whose action is the default action.
//   - If a system call has a rule without conditions, the first of these decides.
//     Otherwise the rules are tried in libseccomp's order (see level.add), and the
//     default action is what remains.
//   - All conditions of a rule must hold. But if one argument is named twice, each
//     condition counts as a rule of its own.
//   - Unless the default action lets calls through, a call whose number is above
//     all those that the profile names fails with ENOSYS: programs then fall back
//     from calls that are newer than the profile.
//   - Calls of an architecture that the profile does not list kill the thread.
//
// libseccomp 2.5 itself sometimes errs, and there the filters differ: its code may
// compare what an earlier comparison has loaded, where one call has several rules
// with conditions, or not load the number at all, where the first of its rules is
// for a call that the architecture lacks; and it drops some rules of calls that
// have several actions. The tests tell such cases from ours by the pseudo code that
// libseccomp prints, and by the profile itself.
//
// The program for one architecture is a binary search over ranges of numbers with
// the same verdict. It uses only instructions that the kernel can evaluate when the
// filter is loaded (seccomp_is_const_allow, Linux 5.11), so that calls which are
// always allowed do not run it.
package seccomp
