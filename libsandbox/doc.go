// Package libsandbox makes, runs and removes containers.
//
// There are few types. A [Store] is a directory that holds the state of containers;
// a [Sandbox] is one container in it. Any number of processes may use one store at
// the same time: each container has a lock, and what a command sees is what the
// kernel says, not what was last written down.
//
//	store, err := libsandbox.OpenStore("/run/adl-runtime")
//	bundle, err := spec.Open("bundle")
//	sb, err := store.Run(ctx, "demo", bundle, &libsandbox.CreateOptions{Stdout: os.Stdout})
//	status, err := sb.Wait(ctx)
//	err = sb.Delete(ctx, nil)
//
// [New] makes one without a bundle, from a [Config]: a sandbox for commands, which
// [Sandbox.Run] runs in a shell that stays, to be reset or deleted afterwards.
//
//	sb, err := libsandbox.New(ctx, &libsandbox.Config{Rootfs: "/srv/rootfs"})
//	result, err := sb.Run(ctx, "make test", nil)
//	err = sb.Reset(ctx, nil)
//
// A program that embeds the package needs no hook in its main function: a
// container's init is not a copy of the program (see internal/engine).
//
// # What is stored
//
// The store has one directory a container:
//
//	ROOT/ID/             locked with flock(2) by whoever changes the container
//	ROOT/ID/state.json   written once, before anything is made
//	ROOT/ID/init.json    written when init is ready
//	ROOT/ID/config.json  the bundle's, as it was at create
//	ROOT/ID/start.sock   where a created container waits for its start
//	ROOT/ID/used         when it was last used, of one with a limit on its idle time
//
// An entry is made before anything that it describes and removed after everything
// else, so whatever a killed process leaves can be removed by name.
package libsandbox
