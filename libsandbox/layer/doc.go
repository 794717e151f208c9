// Package layer makes writable root filesystems that can be thrown away, kept and
// branched: directories for overlayfs or subvolumes of btrfs, below one directory
// called the layer root. It knows no container and no store, and it mounts nothing
// but its own memory: Layer.Mounts says what a container is to mount.
//
//	ROOT/layers/KEY/layer.json  what the layer is (Meta); written before all else
//	ROOT/layers/KEY/upper,work  overlay: the writable directory and its scratch space,
//	                            which is mounted once, as it is mounted volatile
//	ROOT/layers/KEY/data/       of a layer with a limit: has upper and work; a project
//	                            (ext4, xfs) or a tmpfs of its own (in memory)
//	ROOT/layers/KEY/root        btrfs: the subvolume
//	ROOT/layers/KEY/users/      of a committed layer: an empty file per user
//	ROOT/trash/KEY              what Empty is to delete; who does has a flock(2) on ROOT/trash
//	ROOT/memory                 a tmpfs that is a layer root, too (OpenMemory)
//
// A KEY is 16 hexadecimal digits at random; of a layer with a limit, the first is 8 or
// higher. Nothing that a user chose is part of a path below the root.
//
//	New, Next        -> layer ---Commit---> committed layer, which is never written again
//	                      |  \                  |  users/: layer-KEY for one that stands on
//	                   Discard \Copy, Snapshot->|  it, and what Hold has added
//	                      v                     v
//	                    trash <---- the last user goes: rmdir(users) succeeds
//
// A layer knows all that it stands on (Meta.Parents), but is a user of the first of
// them only, which is a user of the next. rmdir(2) fails while there is a file, and
// nobody can make a file in a directory that is gone: so a layer is freed once, and
// never while somebody has it, and nobody locks.
//
// A reset is Next, whatever is to be mounted instead of the old layer, and Discard of
// that. Neither takes longer because of what is in it; Empty does, at its own pace.
//
// Whatever step a process is killed at, what it leaves is either named by Layers,
// to be judged by its owner, or in the trash, or a directory without a layer.json:
// Layers moves those to the trash. Whoever makes layers holds a shared flock(2) on the
// root meanwhile, so that a layer that is being made is not taken for remains.
// Nothing is synced: after a power failure, what was committed last may be incomplete.
//
// Everything in the root belongs to whoever made it, and others cannot get in. But
// containers write to uppers and subvolumes, and a process that has kept hold of a
// directory does so even in the trash: there, names are only opened relative to
// descriptors, symlinks are never followed, and depth costs no descriptors.
package layer
