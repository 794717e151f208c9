// Command layers measures what writable layers are for: reset, snapshot, fork and
// going to a snapshot, in the library and by command line, on ext4, tmpfs and btrfs,
// beside crun and runc, which delete and run again on a fresh overlay.
//
// As in tests/bench, rounds are interleaved in changing order, an idle gap precedes
// what is timed, only the call or command is timed, and the first failure stops the
// bench. Before each of them the trash is empty: what deleting in the background costs
// shows where containers are reset without a pause, with disk use and trash watched.
//
// It works in a mount namespace of its own, so that a mount cannot outlive it.
package main
