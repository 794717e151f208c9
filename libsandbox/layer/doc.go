// Package layer makes writable root filesystems that can be thrown away, kept and
// branched: directories for overlayfs or subvolumes of btrfs, below one directory
// called the layer root. It knows no container and no store, and it mounts nothing
// but its own memory: Layer.Mounts says what a container is to mount.
//
//	ROOT/layers/KEY/layer.json  what the layer is (Meta); written before all else
//	ROOT/layers/KEY/upper,work  overlay: the writable directory and its scratch space
//	ROOT/layers/KEY/users/      of a committed layer: an empty file per user
//	ROOT/trash/KEY              what Empty is to delete
//	ROOT/trash/lock             flock(2): held by whoever deletes
//
// A KEY is 16 hexadecimal digits at random. Nothing that a user chose is part of a
// path below the root.
//
//	New, Next        -> layer ---Commit---> committed layer, which is never written again
//	                      |                     |  users/: layer-KEY for one that stands on
//	                   Discard                  |  it, and what Hold has added
//	                      v                     v
//	                    trash <---- the last user goes: rmdir(users) succeeds
//
// A layer knows all that it stands on (Meta.Parents), but is a user of the first of
// them only, which is a user of the next. rmdir(2) fails while there is a file, and
// nobody can make a file in a directory that is gone: so a layer is freed once, and
// never while somebody has it, and nobody locks.
//
// Whatever step a process is killed at, what it leaves is either named by Layers,
// to be judged by its owner, or in the trash, or a directory without a layer.json:
// Empty removes both. Whoever makes layers holds a shared flock(2) on the root
// meanwhile, so that Empty does not take a layer that is being made for remains.
package layer
