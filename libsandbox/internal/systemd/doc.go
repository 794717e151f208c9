// Package systemd asks systemd to make, change and stop the transient units that
// containers with the systemd cgroup driver live in.
//
// It speaks as much D-Bus as that takes: a handful of method calls and one signal,
// over the socket that systemctl uses, or the system bus. A library for D-Bus would
// cost every start of every verb most of a millisecond; see docs/adr.
//
// It knows nothing of cgroups or containers, and does no more than one user of a
// connection at a time needs.
package systemd
